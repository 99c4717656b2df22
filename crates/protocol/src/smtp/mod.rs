//! SMTP and LMTP as bytes, both sides of them, without a socket (RFC 5321, RFC 2033).
//!
//! A server reads [`Request`]s and answers with [`Reply`]s; message content comes through [`Content`] (DATA) or
//! [`Chunk`] (BDAT). A client reads answers with [`ReplyReader`]. Nothing here waits, looks up or logs.

mod address;
mod command;
mod content;
mod hostname;
mod parameters;
mod reply;
mod reply_reader;
mod sasl;
mod token;
mod xtext;

pub use address::{BadAddress, extract};
pub use command::{Command, Dialect, Mistake, Request, Verb};
pub use content::{Chunk, Content, Ending, Event};
pub use hostname::{
    is_host_address, is_host_name, is_ipv4_address, is_ipv6_address, is_mail_host_address,
    is_mail_host_literal, parse_mail_host_address,
};
pub use parameters::{Mail, OriginalRecipient, Recipient};
pub use reply::Reply;
pub use reply_reader::{ReceivedReply, ReplyReader, TooManyLines, printable};
pub use sasl::{decode_initial, decode_response, encode_challenge};
pub use token::{Token, tokens};
pub use xtext::{xtext_decode, xtext_encode};
