//! The supervisor's capabilities: those it uses, and none that a program started by it could have.

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
};

/// To become the workers' users and end them, to bind low ports, to read keys and place sockets.
const KEPT: CapabilitySet = CapabilitySet::SETUID
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::CHOWN)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::NET_BIND_SERVICE)
    // PAM modules write the audit log.
    .union(CapabilitySet::AUDIT_WRITE);

/// Drops all other capabilities of this process, and of all that it starts. Nothing to do for an
/// ordinary user. Call it before any thread exists.
///
/// # Errors
///
/// If the kernel refuses.
pub(crate) fn keep_of_supervisor() -> std::io::Result<()> {
    let held = capabilities(None)?;
    if held.permitted.is_empty() {
        return Ok(());
    }
    if held.effective.contains(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all().difference(KEPT).iter() {
            if capability_is_in_bounding_set(capability).unwrap_or(false) {
                remove_capability_from_bounding_set(capability)?;
            }
        }
    }
    let _ = clear_ambient_capability_set(); // old kernels have none
    set_capabilities(
        None,
        CapabilitySets {
            effective: held.effective.intersection(KEPT),
            permitted: held.permitted.intersection(KEPT),
            inheritable: CapabilitySet::empty(),
        },
    )?;
    Ok(())
}
