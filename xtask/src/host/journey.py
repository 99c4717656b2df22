# Sends a message of info@example.com to itself through submission and reads the mailbox by IMAP and POP3; prints what an
# administrator must find unchanged after a swap: UIDVALIDITY, and the UID, flags and UIDL of each message.
import imaplib, poplib, smtplib, ssl, sys, time

subject = sys.argv[1]
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
with smtplib.SMTP("127.0.0.1", 587) as smtp:
    smtp.starttls(context=context)
    smtp.login("info", "secret")
    smtp.sendmail("info@example.com", ["info@example.com"],
                  f"From: info@example.com\r\nTo: info@example.com\r\nSubject: {subject}\r\n\r\nhello\r\n")

imap = imaplib.IMAP4("127.0.0.1")
imap.starttls(context)
imap.login("info@example.com", "secret")
for _ in range(200):
    imap.select("INBOX")
    found = imap.search(None, "HEADER", "Subject", f'"{subject}"')[1][0].split()
    if found:
        break
    time.sleep(0.1)
assert len(found) == 1, f"{subject}: {len(found)} copies"
imap.store(found[0], "+FLAGS", r"(\Flagged)")
header = imap.fetch(found[0], "(BODY.PEEK[HEADER])")[1][0][1].decode()
print("uidvalidity", imap.response("UIDVALIDITY")[1][0].decode())
for line in imap.fetch("1:*", "(UID FLAGS)")[1]:
    print("message", line.decode().replace(r" \Recent", "").replace(r"\Recent", ""))
imap.logout()
assert "DKIM-Signature: v=1; a=rsa-sha256;" in header, f"{subject} is not signed:\n{header}"

pop3 = poplib.POP3_SSL("127.0.0.1", context=context)
pop3.user("info")
pop3.pass_("secret")
for line in pop3.uidl()[1]:
    print("uidl", line.decode())
pop3.quit()
