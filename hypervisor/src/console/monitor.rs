//! Commands to the hypervisor, on its own channel: one line each.

use super::line::LineAssembler;
use super::output;
use crate::vm::{self, EXIT_NAMES, ODDITY_NAMES, Vm};
use core::fmt;
use mediator::RpcKind;
use spin::mutex::SpinMutex;

static LINE: SpinMutex<LineAssembler<128>> = SpinMutex::new(LineAssembler::new());

/// A byte of a command line.
pub fn receive(byte: u8) {
    match LINE.lock().push(byte) {
        Some(Ok(command)) => execute(command),
        Some(Err(error)) => output::line(format_args!("monitor: {error}")),
        None => {}
    }
}

fn execute(command: &str) {
    match command {
        "stats" => vm::all().iter().for_each(stats),
        "help" => output::line(format_args!("monitor: commands are help, stats")),
        other => output::line(format_args!("monitor: unknown command `{other}`: try help")),
    }
}

/// Numbers by name, as a JSON object.
struct Object<'a>(&'a [&'a str], &'a [u64]);

impl fmt::Display for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, (name, value)) in self.0.iter().zip(self.1).enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}\"{name}\":{value}")?;
        }
        f.write_str("}")
    }
}

/// One line with all that is counted of a VM.
fn stats(vm: &Vm) {
    let tee = vm
        .mediator()
        .map(mediator::Mediator::stats)
        .unwrap_or_default();
    let kinds = RpcKind::ALL.map(RpcKind::name);
    output::line(format_args!(
        "@postern {{\"event\":\"stats\",\"vm\":\"{}\",\"smc_fast\":{},\"smc_yielding\":{},\"rpc\":{},\"foreign_intr\":{},\"pages_pinned\":{},\"pages_pinned_max\":{},\"buffers\":{},\"buffers_max\":{},\"denied\":{},\"exits\":{},\"refused\":{}}}",
        vm.name,
        tee.fast,
        tee.yielding,
        Object(&kinds, &tee.rpc),
        tee.foreign_intr,
        tee.pages_pinned,
        tee.pages_pinned_max,
        tee.buffers,
        tee.buffers_max,
        tee.denied,
        Object(&EXIT_NAMES, &vm.exits()),
        Object(&ODDITY_NAMES, &vm.oddities()),
    ));
}
