//! Commands to the hypervisor, on its own channel: one line each.

use super::line::LineAssembler;
use super::output;
use crate::vm::frames::SharedPool;
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

/// Numbers by name: the inside of a JSON object.
struct Object<'a>(&'a [&'a str], &'a [u64]);

impl fmt::Display for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.0.iter().zip(self.1).enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}\"{name}\":{value}")?;
        }
        Ok(())
    }
}

/// One line with all that is counted of a VM.
fn stats(vm: &Vm) {
    let tee = vm
        .mediator()
        .map(mediator::Mediator::stats)
        .unwrap_or_default();
    let kinds = RpcKind::ALL.map(RpcKind::name);
    let now = Object(
        &[
            "pages_pinned",
            "pages_held",
            "buffers",
            "rpc_buffers",
            "sessions",
            "calls",
            "mapped_pages",
        ],
        &[
            tee.pages_pinned,
            vm.memory.pinned_pages() as u64,
            tee.buffers,
            tee.rpc_buffers,
            tee.sessions,
            tee.calls,
            tee.mapped_pages,
        ],
    );
    let so_far = Object(
        &[
            "smc_fast",
            "smc_yielding",
            "smcs",
            "foreign_intr",
            "pages_pinned_max",
            "buffers_max",
            "denied",
            "withheld",
            "lost",
            "leaked",
            "kept",
        ],
        &[
            tee.fast,
            tee.yielding,
            tee.smcs,
            tee.foreign_intr,
            tee.pages_pinned_max,
            tee.buffers_max,
            tee.denied,
            tee.withheld,
            tee.lost,
            tee.leaked,
            tee.kept,
        ],
    );
    output::line(format_args!(
        "@postern {{\"event\":\"stats\",\"vm\":\"{}\",{now},{so_far},\"rpc\":{{{}}},\"exits\":{{{}}},\"refused\":{{{}}},\"shared_pages\":{}}}",
        vm.name,
        Object(&kinds, &tee.rpc),
        Object(&EXIT_NAMES, &vm.exits()),
        Object(&ODDITY_NAMES, &vm.oddities()),
        vm::SHARED_PAGES.get().map_or(0, SharedPool::in_use),
    ));
}
