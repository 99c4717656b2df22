//! What was negotiated, in OpenSSL's words: they stand in Received headers and in log lines.

use rustls::{
    ClientConnection, CommonState, ProtocolVersion, ServerConnection, SupportedCipherSuite,
};

use super::ciphers;

/// One TLS session as the originals' texts show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `TLSv1.3`
    pub version: &'static str,
    /// `TLS_AES_256_GCM_SHA384`, `ECDHE-RSA-AES128-GCM-SHA256`
    pub cipher: String,
    /// Of the cipher's key: 256.
    pub bits: u16,
    /// `X25519`, `P-256`, `X25519MLKEM768`
    pub key_exchange: Option<String>,
    /// The server name that the client asked for.
    pub server_name: Option<String>,
    pub resumed: bool,
}

impl Facts {
    pub(super) fn of_server(connection: &ServerConnection) -> Self {
        let server_name = connection.server_name().map(str::to_owned);
        Self { server_name, ..Self::of(connection) }
    }

    pub(super) fn of_client(connection: &ClientConnection) -> Self {
        Self::of(connection)
    }

    fn of(connection: &CommonState) -> Self {
        let (cipher, bits) = connection.negotiated_cipher_suite().map_or_else(
            || ("unknown".to_owned(), 0),
            |suite: SupportedCipherSuite| ciphers::openssl_name(suite.suite()),
        );
        let group = connection.negotiated_key_exchange_group();
        Self {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "unknown",
            },
            cipher,
            bits,
            key_exchange: group.map(|group| group_name(&format!("{:?}", group.name()))),
            server_name: None,
            resumed: connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        }
    }
}

fn group_name(rustls: &str) -> String {
    match rustls {
        "secp256r1" => "P-256".to_owned(),
        "secp384r1" => "P-384".to_owned(),
        "secp521r1" => "P-521".to_owned(),
        other => other.to_owned(),
    }
}
