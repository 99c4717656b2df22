//! The resolver behind our trait: MX, A and AAAA, PTR, TXT, TLSA; NXDOMAIN, no data, SERVFAIL and time-outs told apart.
#![forbid(unsafe_code)]
