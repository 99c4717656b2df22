//! Peers, a stand-in for the service manager, certificates and clients for the suites and the demo.
#![forbid(unsafe_code)]
