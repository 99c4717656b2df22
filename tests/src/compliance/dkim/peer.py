# Signs and verifies with dkimpy: one JSON request a line, one answer a line.
import base64, json, sys
import dkim

keys = {}

def answer(request):
    message = base64.b64decode(request["message"])
    if request["do"] == "sign":
        header, body = request["c"].encode().split(b"/")
        options = {}
        if request.get("identity"):
            options["identity"] = request["identity"].encode()
        if request.get("algorithm"):
            options["signature_algorithm"] = request["algorithm"].encode()
        field = dkim.sign(message, request["selector"].encode(), request["domain"].encode(),
                          request["key"].encode(), canonicalize=(header, body), **options)
        return base64.b64encode(field).decode()
    keys.update((name.encode() + b".", value.encode()) for name, value in request["keys"].items())
    verifier = dkim.DKIM(message, minkey=1024)
    return verifier.verify(0, dnsfunc=lambda name, timeout=5: keys.get(name))

for line in sys.stdin:
    try:
        result = answer(json.loads(line))
    except Exception as error:
        result = "error: %r" % error
    print(json.dumps(result), flush=True)
