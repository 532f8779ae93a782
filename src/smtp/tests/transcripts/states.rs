//! Every command in every state, as one table.

use std::fmt::Write as _;

use bytes::BytesMut;
use postroad_smtp::server::{
    AuthOffer, FutureRelease, Request, ServerConfig, Session, Step, TlsOffer, Verdict,
};

/// How a session gets into a state: what it offers, and what the client says until then.
struct State {
    name: &'static str,
    tls: TlsOffer,
    auth: AuthOffer,
    said: &'static str,
}

/// A base64 of NUL, `u`, NUL, `p`.
const LOGIN: &str = "AUTH PLAIN AHUAcA==";

const STATES: [State; 12] = [
    State {
        name: "connected",
        tls: TlsOffer::Offered,
        auth: AuthOffer::UnderTls,
        said: "",
    },
    State {
        name: "after HELO",
        tls: TlsOffer::Offered,
        auth: AuthOffer::UnderTls,
        said: "HELO a\r\n",
    },
    State {
        name: "after EHLO",
        tls: TlsOffer::Offered,
        auth: AuthOffer::UnderTls,
        said: "EHLO a\r\n",
    },
    State {
        name: "after EHLO, TLS and a login not available",
        tls: TlsOffer::Unavailable,
        auth: AuthOffer::Disabled,
        said: "EHLO a\r\n",
    },
    State {
        name: "after EHLO, TLS required",
        tls: TlsOffer::Required,
        auth: AuthOffer::UnderTls,
        said: "EHLO a\r\n",
    },
    State {
        name: "connected under TLS",
        tls: TlsOffer::Active,
        auth: AuthOffer::UnderTls,
        said: "",
    },
    State {
        name: "after EHLO under TLS",
        tls: TlsOffer::Active,
        auth: AuthOffer::UnderTls,
        said: "EHLO a\r\n",
    },
    State {
        name: "after EHLO under TLS, a login required",
        tls: TlsOffer::Active,
        auth: AuthOffer::Required,
        said: "EHLO a\r\n",
    },
    State {
        name: "after AUTH",
        tls: TlsOffer::Active,
        auth: AuthOffer::Required,
        said: "EHLO a\r\nAUTH PLAIN AHUAcA==\r\n",
    },
    State {
        name: "after MAIL",
        tls: TlsOffer::Offered,
        auth: AuthOffer::UnderTls,
        said: "EHLO a\r\nMAIL FROM:<a@b>\r\n",
    },
    State {
        name: "after RCPT",
        tls: TlsOffer::Offered,
        auth: AuthOffer::UnderTls,
        said: "EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n",
    },
    State {
        name: "after BDAT",
        tls: TlsOffer::Offered,
        auth: AuthOffer::UnderTls,
        said: "EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 3\r\nabc",
    },
];

const COMMANDS: [&str; 27] = [
    "EHLO b",
    "HELO b",
    "MAIL FROM:<a@b>",
    "MAIL FROM:<a@b> SIZE=1000",
    "MAIL FROM:<a@b> SIZE=99999999999",
    "MAIL FROM:<a@b> BODY=BINARYMIME SMTPUTF8",
    "MAIL FROM:<a@b> RET=FULL ENVID=x",
    "MAIL FROM:<a@b> REQUIRETLS",
    "MAIL FROM:<a@b> BY=60;R MT-PRIORITY=3",
    "MAIL FROM:<a@b> HOLDFOR=60",
    "MAIL FROM:<a@b> X=y",
    "MAIL",
    "RCPT TO:<c@d>",
    "RCPT TO:<c@d> NOTIFY=NEVER ORCPT=rfc822;c@d",
    "RCPT TO:<j\u{f6}rg@d>",
    "DATA",
    "BDAT 0",
    "BDAT 0 LAST",
    "BDAT x",
    "RSET",
    "NOOP",
    "VRFY c",
    "EXPN c",
    "HELP",
    "STARTTLS",
    LOGIN,
    "QUIT",
];

/// The whole table.
pub(crate) fn table() -> String {
    let mut table = String::from(
        "# What each command is answered in each state, with all that can be offered on offer and everything\n\
         # accepted. Written by the test of transcripts.\n",
    );
    for state in &STATES {
        let _ = writeln!(table, "\n{}", state.name);
        for command in COMMANDS {
            let (reply, then) = answer(state, command);
            let _ = writeln!(table, "  {command:<46} {reply}{then}");
        }
    }
    table
}

/// The last line of the answer, and what comes of it.
fn answer(state: &State, command: &str) -> (String, &'static str) {
    let mut session = Session::new(ServerConfig {
        tls: state.tls,
        auth: state.auth,
        future_release: Some(FutureRelease {
            seconds_max: 3600,
            until_max: 1_800_000_000,
        }),
        ..ServerConfig::new("mail.example.com")
    });
    say(&mut session, state.said);
    session.output().clear();
    let then = say(&mut session, &format!("{command}\r\n"));
    let replies = String::from_utf8(session.output().to_vec()).unwrap();
    let last = replies.trim_end().rsplit("\r\n").next().unwrap();
    (last.to_owned(), then)
}

/// Says something and accepts what is asked for.
fn say(session: &mut Session, text: &str) -> &'static str {
    let mut input = BytesMut::from(text);
    let mut asked = "";
    loop {
        match session.step(&mut input) {
            Step::NeedInput if session.is_receiving() => return " [content]",
            Step::NeedInput => return asked,
            Step::StartTls => return " [handshake]",
            Step::Close => return " [closed]",
            Step::Request(request) => {
                asked = match request {
                    Request::Authenticate { .. } => " [login asked]",
                    Request::Sender(_) => " [sender asked]",
                    Request::Recipient(_) => " [recipient asked]",
                    Request::Message(_) => " [message asked]",
                };
                session.answer(Verdict::Accept);
            }
        }
    }
}
