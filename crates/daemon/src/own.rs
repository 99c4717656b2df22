//! theoris.toml, which changes the same things in every daemon's plan.

use std::time::Duration;

use config::Problems;
use config::files::Disk;
use config::theoris::Theoris;

use crate::{Args, Daemon, Plan};

/// The daemon's plan with what theoris.toml, the environment and `--set` say over it.
///
/// # Errors
///
/// All problems, if one forbids the start.
pub(crate) fn plan<D: Daemon>(args: &Args) -> Result<Plan, Problems> {
    let mut problems = Problems::default();
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let theoris = Theoris::read(&Disk, args.theoris_toml(), environment, &args.sets, &mut problems);
    let mut plan = match D::plan(args) {
        Ok(plan) => plan,
        Err(mut more) => {
            more.extend(problems);
            return Err(more);
        }
    };
    plan.problems.extend(problems);
    plan.sandbox = theoris.sandbox;
    plan.taken_over = Some(theoris.run_directory.join(format!("{}.sockets", D::NAME)));
    if let Some(own) = theoris.daemon(D::NAME) {
        plan.metrics = own.metrics.0.or(plan.metrics);
        plan.log.debug |= own.debug;
        if *own != config::theoris::Daemon::default() {
            plan.grace.reload = Duration::from_secs(own.reload_grace.into());
            plan.grace.stop = Duration::from_secs(own.stop_grace.into());
        }
        if plan.control.is_none() && crate::privileges::is_root() && theoris.run_directory.is_dir()
        {
            plan.control = Some(theoris.run_directory.join(format!("{}.control", D::NAME)));
        }
    }
    let (path, named) = args.theoris_toml();
    if named || path.exists() {
        plan.watch.push(path.to_owned());
    }
    Ok(plan)
}
