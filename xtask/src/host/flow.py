# Mail that flows and readers that read while planks are swapped, all of it accounted for.
#
#   flow.py serve          senders, readers and the host that outgoing mail goes to; the state is kept for the next start
#   flow.py ask more N     waits until N more messages were accepted and everything accepted has arrived; prints what is odd
#   flow.py ask end        the same, then no more is sent, every mailbox is looked through once more, and serve ends
import imaplib, json, os, poplib, re, smtplib, socket, socketserver, ssl, subprocess, sys, threading, time

DOOR = "/run/flow.sock"
KEPT = "/var/lib/flow.json"
PATIENCE = 90  # seconds until mail must have been accepted, and accepted mail have arrived
US, FRIEND, STRANGER = "info@example.com", "friend@elsewhere.example", "stranger@elsewhere.example"

context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
change = threading.Condition()
stop = threading.Event()
state = {"number": 0, "accepted": {}, "arrived": {}, "unsigned": [], "validity": None,
         "messages": {}, "uidls": []}
odd = {"refused": [], "cut": [], "put-off": [], "wrong": []}


def note(kind, text):
    with change:
        odd[kind].append(f"{time.strftime('%H:%M:%S')} {text}")


def arrive(name, signed):
    if "@flow.example>" not in name:
        return  # what lay there before
    with change:
        state["arrived"][name] = state["arrived"].get(name, 0) + 1
        if not signed and ".signed@" in name:
            state["unsigned"].append(name)
        change.notify_all()


def begin(signed):
    with change:
        state["number"] += 1
        return f"<{state['number']}.{'signed' if signed else 'plain'}@flow.example>"


def accepted(name, signed):
    with change:
        state["accepted"][name] = signed
        change.notify_all()


def message(name, sender, recipient):
    return (f"From: {sender}\r\nTo: {recipient}\r\nSubject: flow\r\nMessage-ID: {name}\r\n"
            f"Date: {time.strftime('%a, %d %b %Y %H:%M:%S +0000', time.gmtime())}\r\n\r\nhello\r\n")


# What each of them does once; the errors are told apart by repeat().
def submission(turn):
    with smtplib.SMTP("127.0.0.1", 587, timeout=60) as smtp:
        smtp.starttls(context=context)
        smtp.login("info", "secret")
        for recipient in (US, FRIEND):
            name = begin(True)
            smtp.sendmail(US, [recipient], message(name, US, recipient))
            accepted(name, True)


def incoming(turn):
    with smtplib.SMTP("127.0.0.1", 25, timeout=60) as smtp:
        name = begin(False)
        smtp.sendmail(STRANGER, [US], message(name, STRANGER, US))
        accepted(name, False)


def local(turn):
    name = begin(True)
    done = subprocess.run(["/usr/sbin/sendmail", "-f", US, FRIEND], input=message(name, US, FRIEND).encode().replace(b"\r", b""))
    if done.returncode == 0:
        accepted(name, True)
    else:
        note("put-off", f"sendmail: exit {done.returncode}")


def imap(turn, everything=False):
    box = imaplib.IMAP4_SSL("127.0.0.1", ssl_context=context, timeout=60) if turn % 2 else imaplib.IMAP4("127.0.0.1", timeout=60)
    try:
        if not turn % 2:
            box.starttls(context)
        box.login("info@example.com", "secret")
        box.select("INBOX")
        validity = box.response("UIDVALIDITY")[1][0].decode()
        if state["validity"] not in (None, validity):
            note("wrong", f"UIDVALIDITY {state['validity']} became {validity}")
        state["validity"] = validity
        known = state["messages"]
        last = max(map(int, known), default=0)
        first = 1 if everything else last + 1
        answer = box.uid("FETCH", f"{first}:*", "(UID FLAGS BODY.PEEK[HEADER.FIELDS (MESSAGE-ID DKIM-SIGNATURE)])")[1]
        seen = {}
        for part in answer:
            if not isinstance(part, tuple):
                continue
            head, header = part[0].decode(), part[1].decode()
            uid = re.search(r"UID (\d+)", head).group(1)
            flags = sorted(set(re.search(r"FLAGS \(([^)]*)\)", head).group(1).split()) - {r"\Recent"})
            name = re.search(r"(?im)^message-id:\s*(\S+)", header)
            name = name.group(1) if name else ""
            seen[uid] = [name, flags]
            if uid not in known:
                if int(uid) <= last:
                    note("wrong", f"UID {uid} of {name} is new, and not above {last}")
                if int(uid) % 5 == 0:
                    box.uid("STORE", uid, "+FLAGS", r"(\Flagged Work)")
                    flags = sorted(set(flags) | {r"\Flagged", "Work"})
                known[uid] = [name, flags]
                arrive(name, re.search(r"(?im)^dkim-signature:", header) is not None)
            elif known[uid] != seen[uid]:
                note("wrong", f"UID {uid}: {known[uid]} became {seen[uid]}")
        if everything:
            for uid in set(known) - set(seen):
                note("wrong", f"UID {uid} of {known[uid]} is gone")
        box.logout()
    except imaplib.IMAP4.abort:
        raise
    except imaplib.IMAP4.error as error:
        note("cut", f"imap: {error}")
    finally:
        if box.state != "LOGOUT":
            box.shutdown()


def pop3(turn):
    box = poplib.POP3_SSL("127.0.0.1", context=context, timeout=60)
    try:
        box.user("info")
        box.pass_("secret")
        now = [line.decode() for line in box.uidl()[1]]
        before = state["uidls"]
        if now[:len(before)] != before:
            note("wrong", f"UIDLs {before} became {now}")
        state["uidls"] = now
        box.quit()
    except poplib.error_proto as error:
        note("cut", f"pop3: {error}")
    finally:
        box.close()


def repeat(work):
    turn = 0
    while not stop.is_set():
        turn += 1
        try:
            work(turn)
        except ConnectionRefusedError:
            note("refused", work.__name__)
        except smtplib.SMTPResponseException as error:
            note("put-off", f"{work.__name__}: {error.smtp_code} {error.smtp_error}")
        except smtplib.SMTPRecipientsRefused as error:
            note("put-off", f"{work.__name__}: {error.recipients}")
        except (OSError, EOFError, smtplib.SMTPException, imaplib.IMAP4.error, poplib.error_proto) as error:
            note("cut", f"{work.__name__}: {error!r}")
        except Exception as error:
            note("wrong", f"{work.__name__}: {error!r}")
        stop.wait(0.1)  # an ordinary host's pace


class Elsewhere(socketserver.StreamRequestHandler):
    """The host that all mail for others goes to."""

    def handle(self):
        self.wfile.write(b"220 elsewhere.example ESMTP\r\n")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                text = b""
                while (line := self.rfile.readline()) not in (b".\r\n", b""):
                    text += line
                head = text.split(b"\r\n\r\n")[0].decode()
                name = re.search(r"(?im)^message-id:\s*(\S+)", head)
                arrive(name.group(1) if name else "", re.search(r"(?im)^dkim-signature:", head) is not None)
            self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
            if verb == b"QUIT":
                return


def missing(names):
    return [name for name in names if name not in state["arrived"]]


def settle(more):
    """Waits until so many more were accepted, and then until all of those are there."""
    end = time.monotonic() + PATIENCE
    with change:
        goal = len(state["accepted"]) + more
        if not change.wait_for(lambda: len(state["accepted"]) >= goal, PATIENCE):
            note("wrong", f"{len(state['accepted'])} accepted, not {goal}")
        wanted = list(state["accepted"])
        while left := missing(wanted):
            if time.monotonic() > end:
                note("wrong", f"accepted and not there: {left}")
                return
            if not change.wait_for(lambda: not missing(wanted), 5):
                flush()


def flush():
    """What Postfix has put off would wait for minutes."""
    subprocess.run(["postqueue", "-f"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def report():
    with change:
        twice = [name for name, times in state["arrived"].items() if times > 1]
        told = {**odd, "accepted": len(state["accepted"]), "unsigned": state["unsigned"], "twice": twice,
                "most": max(state["arrived"].values(), default=0),
                "strange": [name for name in state["arrived"] if name and name not in state["accepted"]]}
        for kind in odd:
            odd[kind] = []
        state["unsigned"] = []
        return told


def answer(words, threads):
    if words[0] == "more":
        settle(int(words[1]))
        return report()
    stop.set()
    for thread in threads:
        thread.join()
    end = time.monotonic() + PATIENCE
    imap(1)
    while missing(state["accepted"]) and time.monotonic() < end:
        flush()
        with change:
            change.wait(1)
        imap(1)
    if left := missing(state["accepted"]):
        note("wrong", f"accepted and never there: {left}")
    imap(1, everything=True)
    pop3(1)
    with open(KEPT + ".new", "w") as file:
        json.dump(state, file)
    os.rename(KEPT + ".new", KEPT)
    return report()


def tell_manager(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.sendto(text, os.environ["NOTIFY_SOCKET"])


def serve():
    if os.path.exists(KEPT):
        with open(KEPT) as file:
            state.update(json.load(file))
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    elsewhere = socketserver.ThreadingTCPServer(("127.0.0.1", 10025), Elsewhere)
    elsewhere.daemon_threads = True
    threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
    workers = [submission, incoming, local, imap, pop3]
    threads = [threading.Thread(target=repeat, args=(work,)) for work in workers]
    with socket.socket(socket.AF_UNIX) as door:
        if os.path.exists(DOOR):
            os.remove(DOOR)
        door.bind(DOOR)
        door.listen()
        for thread in threads:
            thread.start()
        tell_manager(b"READY=1")
        while not stop.is_set():
            client, _ = door.accept()
            with client:
                told = answer(client.makefile().readline().split(), threads)
                client.sendall(json.dumps(told).encode())


def ask(words):
    with socket.socket(socket.AF_UNIX) as door:
        door.connect(DOOR)
        door.sendall((" ".join(words) + "\n").encode())
        print(door.makefile().read())


serve() if sys.argv[1] == "serve" else ask(sys.argv[2:])
