//! What a connection is for, and how it is protected.

use crate::Password;

/// What a connection is for.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The name in EHLO; a domain name or an address literal. Anything else becomes `localhost`.
    pub ehlo_name: String,
    /// How TLS is used.
    pub tls: ClientTls,
    /// The login, if the server wants one.
    pub login: Option<Login>,
}

/// How a connection is protected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientTls {
    /// Plaintext.
    None,
    /// STARTTLS where offered. Protects against onlookers only, so no login is possible.
    Opportunistic,
    /// STARTTLS always; nothing is sent without it.
    Required,
    /// The connection is already under TLS, with a verified certificate.
    Active,
}

/// A user name and its password.
#[derive(Clone, Debug)]
pub struct Login {
    /// The name.
    pub username: String,
    /// The password.
    pub password: Password,
}

/// What a handshake has shown about the server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Certificate {
    /// Nothing: TLS with whoever it is.
    Unverified,
    /// It is the server that was meant.
    Verified,
}
