//! Programs that people use, against all of our daemons on the sample `guide`: each test sends mail with one and reads
//! it with one, over the ports and encryption that its users have.

mod curl;
mod fetchmail;
mod mbsync;
mod python;
mod readers;
mod rig;
mod sendmail;
mod swaks;
