"""An aiosmtpd that does as it is told: scripted.py PORT STEP REPLY

At the step (MAIL, RCPT, or "." for the end of the content) it gives this reply instead of yes; with an empty one it closes. After SIGUSR1 it
says yes to everything. It prints a line for each message that was there as a whole and was not refused.
"""

import asyncio
import signal
import sys

from aiosmtpd.smtp import SMTP


class Script:
    def __init__(self, step, reply):
        self.step, self.reply = step, reply

    def mend(self):
        self.step = None

    def answer(self, step, yes):
        return self.reply if step == self.step else yes

    async def handle_MAIL(self, server, session, envelope, address, options):
        reply = self.answer("MAIL", "250 2.1.0 ok")
        if reply.startswith("2"):
            envelope.mail_from = address
        return reply

    async def handle_RCPT(self, server, session, envelope, address, options):
        reply = self.answer("RCPT", "250 2.1.5 ok")
        if reply.startswith("2"):
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, server, session, envelope):
        reply = self.answer(".", "250 2.0.0 taken")
        if reply[:1] in ("", "2"):
            print("taken", flush=True)
        if not reply:
            server.transport.close()
        return reply


async def main(port, step, reply):
    loop, script = asyncio.get_running_loop(), Script(step, reply)
    loop.add_signal_handler(signal.SIGUSR1, script.mend)
    server = await loop.create_server(lambda: SMTP(script, hostname="aiosmtpd"), "127.0.0.1", port)
    await server.serve_forever()


asyncio.run(main(int(sys.argv[1]), *sys.argv[2:]))
