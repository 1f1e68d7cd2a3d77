// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What U-Boot boots on a real board: from a system's description and the board's device tree a
//! folder with the hypervisor, the guests' files, a device tree, scripts, a FIT and a page that
//! says what to type. docs/porting.md is its manual.
//!
//! Nothing here knows QEMU. What is known of the machine is what the board's tree says.

pub mod args;
mod board;
mod check;
mod fit;
mod page;
mod script;
mod window;

use crate::boot_tree::{self, Modules, Region};
use crate::config::{System, Tee, TeeAbi, Vm};
use crate::guest_image::Drivers;
use crate::paths::Paths;
use crate::prepare::{self, Guests, Suite};
use crate::progress::Progress;
use crate::{guest_image, parts, stamp};
use anyhow::{Context, Result, ensure};
pub use board::{Additions, OpteeNodes};
use dtoolkit::model::DeviceTree;
use mediator::addr::{PAGE_SIZE, Pa};
use postern_base::range::PaRange;
use postern_boot_tree::{BootPlacement, check as reader, machine};
pub use script::{From, Medium, image as script_image};
use std::path::{Path, PathBuf};
pub use window::Range;
use window::{Window, WindowError};

/// The hypervisor's file.
pub const HYPERVISOR: &str = "postern.img";
/// The board's tree with the VMs in it.
pub const TREE: &str = "postern.dtb";
/// The same for boot loaders with EFI: the modules' addresses are offsets into [`GUESTS`].
pub const EFI_TREE: &str = "postern-efi.dtb";
/// The guests' kernels, RAM disks and disks in one file, which boot loaders with EFI load as an initial RAM disk.
pub const GUESTS: &str = "guests.img";
/// All in one file.
pub const FIT: &str = "postern.itb";
/// The page for the reader.
pub const PAGE: &str = "README.txt";
/// Room for the tree: U-Boot adds to it in place when it does not move it.
const TREE_ROOM: u64 = 1 << 20;

/// What a bundle is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The board's device tree, a flattened one.
    pub board: PathBuf,
    /// The system. Of its `[machine]` only `when_all_off` and `optee_spi` count.
    pub system: System,
    /// The Debian suite of guests that have no kernel or RAM disk of their own.
    pub suite: Suite,
    /// The folder that gets the files.
    pub out: PathBuf,
    /// The hypervisor's image, where it is not built from the checkout.
    pub hypervisor: Option<PathBuf>,
    /// Where U-Boot loads the files from.
    pub from: From,
    /// Where the files go in RAM; the first place that is free where it is not given.
    pub load_address: Option<u64>,
    /// What is added to the board's tree.
    pub additions: Additions,
}

/// How it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The folder is complete; what the user should know besides.
    Done(Vec<String>),
    /// Postern cannot boot with this tree; every problem in a line. Nothing was written.
    Problems(Vec<String>),
}

/// A file of the bundle.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// Its name in the folder.
    pub name: String,
    /// What it is.
    pub what: String,
    /// Its place in RAM.
    pub region: Region,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Everything that scripts, FIT and page tell.
pub(crate) struct Bundle<'a> {
    /// The hypervisor.
    pub hypervisor: Piece,
    /// The guests' kernels, RAM disks and disks.
    pub modules: Vec<Piece>,
    /// The tree.
    pub tree: Piece,
    /// The bytes of [`EFI_TREE`].
    pub efi_tree: Vec<u8>,
    /// Where the FIT is loaded to; `None` where RAM has no room for it beside what it holds.
    pub stage: Option<u64>,
    /// What it was made of.
    pub plan: &'a Plan,
    /// What each VM boots.
    pub placed: Vec<Modules>,
}

impl Bundle<'_> {
    /// The files in the order in which they are loaded.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &Piece> {
        std::iter::once(&self.hypervisor)
            .chain(&self.modules)
            .chain([&self.tree])
    }
}

/// What a board's tree is in the way of, a line each.
pub(crate) type Problems = Vec<String>;

/// Writes a bundle, unless the board's tree has problems.
///
/// # Errors
/// A file cannot be read, built or written.
pub fn bundle(plan: &Plan, progress: &Progress) -> Result<Outcome> {
    let name = plan.board.display().to_string();
    let base = std::fs::read(&plan.board)
        .with_context(|| format!("the board's device tree {name} cannot be read"))?;
    let mut notes = Vec::new();
    let tree = match complete(plan, &base, &mut notes)? {
        Ok(tree) => tree,
        Err(lines) => return Ok(problems_of(&name, lines)),
    };
    let (hypervisor, files) = files(plan, progress)?;
    let bundle = match compose(plan, tree, hypervisor, &files)? {
        Ok(bundle) => bundle,
        Err(lines) => return Ok(problems_of(&name, lines)),
    };
    write(&bundle, &mut notes)?;
    Ok(Outcome::Done(notes))
}

/// Returns a board's tree with the plan's additions, unless Postern cannot boot with it.
///
/// # Errors
/// A node cannot have its name.
pub(crate) fn complete(
    plan: &Plan,
    base: &[u8],
    notes: &mut Vec<String>,
) -> Result<Result<DeviceTree, Problems>> {
    let mut tree = match board::open(base) {
        Ok(tree) => tree,
        Err(problem) => return Ok(Err(vec![problem])),
    };
    if board::remove_seeds(&mut tree) {
        notes.push(format!(
            "{}: /chosen has a random seed, which would be the same at every boot: it is left out",
            plan.board.display()
        ));
    }
    board::add(&mut tree, &plan.additions)?;
    let bytes = tree.to_dtb();
    let mut problems: Vec<String> = (reader::machine_problems(&bytes).iter())
        .map(check::line)
        .collect();
    match check::optee(&plan.system, &plan.additions.optee, &bytes) {
        check::Optee::Good => {}
        check::Optee::Note(text) => notes.push(text),
        check::Optee::Problem(text) => problems.push(text),
    }
    Ok(if problems.is_empty() {
        Ok(tree)
    } else {
        Err(problems)
    })
}

/// Places all files and describes the VMs in the tree.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn compose<'a>(
    plan: &'a Plan,
    mut tree: DeviceTree,
    hypervisor: Vec<u8>,
    files: &Files,
) -> Result<Result<Bundle<'a>, Problems>> {
    let files_bytes: u64 = files.sizes.iter().map(|(_, bytes)| *bytes).sum();
    let memory = guest_image::image_size(&hypervisor).context(
        "the hypervisor's image has no arm64 Image header; give the file postern.img of a release",
    )?;
    let needs = [memory]
        .into_iter()
        .chain(files.sizes.iter().map(|(_, bytes)| *bytes))
        .chain([TREE_ROOM]);
    let fit_bytes = hypervisor.len() as u64 + files_bytes + 2 * TREE_ROOM;
    let bytes = tree.to_dtb();
    let free = reader::free_ram(&bytes).map_err(|error| anyhow::Error::msg(check::line(&error)))?;
    let window = match Window::choose(&free, plan.load_address, needs, fit_bytes) {
        Ok(window) => window,
        Err(error) => return Ok(Err(vec![window_line(&error)])),
    };
    let region = |index: usize, size: usize| Region {
        address: window.places[index],
        size: size as u64,
    };
    let mut modules = Vec::new();
    for (index, ((file, _), (file_name, what))) in files.sizes.iter().zip(&files.names).enumerate()
    {
        let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
        modules.push(Piece {
            name: file_name.clone(),
            what: what.clone(),
            region: region(index + 1, bytes.len()),
            bytes,
        });
    }
    let placed: Vec<Modules> = (files.of_vms.iter())
        .map(|of_vm| of_vm.modules(|index| modules[index].region))
        .collect();
    let static_tables = plan.additions.static_tables;
    let efi_tree = efi_tree(&tree, plan, &modules, &files.of_vms)?;
    boot_tree::describe(&mut tree, &plan.system, &placed, static_tables)?;
    let bytes = tree.to_dtb();
    let place = |address: u64, bytes: u64| {
        PaRange::new(Pa::new(address), bytes).context("a place beyond the address space")
    };
    let last = window.places.len() - 1;
    let found = BootPlacement {
        hypervisor: place(window.places[0], memory)?,
        tree: place(window.places[last], bytes.len() as u64)?,
        boot_cpu: reader::first_cpu(&bytes),
    };
    let module = |range: PaRange| {
        let mut pieces = modules.iter();
        let piece = pieces.find(|piece| piece.region.address == range.start().get())?;
        Some(&piece.bytes[..])
    };
    if let Err(error) = machine::read(&bytes, found, &module) {
        return Ok(Err(vec![check::line(&error)]));
    }
    Ok(Ok(Bundle {
        hypervisor: Piece {
            name: HYPERVISOR.into(),
            what: "the hypervisor".into(),
            region: region(0, hypervisor.len()),
            bytes: hypervisor,
        },
        modules,
        tree: Piece {
            name: TREE.into(),
            what: "the board's device tree with the VMs".into(),
            region: region(last, bytes.len()),
            bytes,
        },
        efi_tree,
        stage: window.stage,
        plan,
        placed,
    }))
}

/// The tree whose modules are in [`GUESTS`].
fn efi_tree(
    board: &DeviceTree,
    plan: &Plan,
    modules: &[Piece],
    of_vms: &[VmFiles],
) -> Result<Vec<u8>> {
    let mut tree = board.clone();
    let mut offset = 0;
    let mut inside = Vec::new();
    for piece in modules {
        inside.push(Region {
            address: offset,
            size: piece.region.size,
        });
        offset = (offset + piece.region.size).next_multiple_of(PAGE_SIZE);
    }
    let placed: Vec<Modules> = (of_vms.iter())
        .map(|of_vm| of_vm.modules(|index| inside[index]))
        .collect();
    boot_tree::describe(
        &mut tree,
        &plan.system,
        &placed,
        plan.additions.static_tables,
    )?;
    boot_tree::set(
        boot_tree::chosen(&mut tree),
        "postern,modules-in-initrd",
        1_u32,
    );
    Ok(tree.to_dtb())
}

/// The bytes of [`GUESTS`]: each file at the start of a page.
fn guests(modules: &[Piece]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in modules {
        bytes.resize(bytes.len().next_multiple_of(PAGE_SIZE as usize), 0);
        bytes.extend(&piece.bytes);
    }
    bytes
}

fn problems_of(board: &str, lines: Vec<String>) -> Outcome {
    let line = |text: String| format!("{board}: {text}");
    Outcome::Problems(lines.into_iter().map(line).collect())
}

fn window_line(error: &WindowError) -> String {
    format!("/memory: {error}")
}

/// The guests' files, each once.
#[derive(Default)]
pub(crate) struct Files {
    pub(crate) sizes: Vec<(PathBuf, u64)>,
    /// Names in the bundle, and what they are.
    names: Vec<(String, String)>,
    /// For each VM its files.
    of_vms: Vec<VmFiles>,
}

/// The places of a VM's files among [`Files`].
#[derive(Debug)]
struct VmFiles {
    kernel: usize,
    initrd: usize,
    disk: Option<usize>,
    partial_tree: Option<usize>,
}

impl VmFiles {
    fn modules(&self, region: impl Fn(usize) -> Region) -> Modules {
        Modules {
            kernel: region(self.kernel),
            initrd: region(self.initrd),
            disk: self.disk.map(&region),
            partial_tree: self.partial_tree.map(&region),
        }
    }
}

impl Files {
    /// Returns the files of VMs, of which `of_vm` returns the kernel and the RAM disk.
    ///
    /// # Errors
    /// A file cannot be read, or does not fit into the VM's memory.
    pub(crate) fn of(
        vms: &[Vm],
        of_vm: impl Fn(&Vm) -> Result<(PathBuf, PathBuf)>,
    ) -> Result<Self> {
        let mut files = Self::default();
        for vm in vms {
            let (kernel, initrd) = of_vm(vm)?;
            let name = || format!("vm \"{}\"", vm.name);
            prepare::fits_into(vm, &kernel, &initrd).with_context(name)?;
            let kernel = files.add(&kernel, "kernel", vm).with_context(name)?;
            let initrd = files.add(&initrd, "initrd", vm).with_context(name)?;
            let disk = vm.disk.as_ref().map(|file| files.add(file, "disk", vm));
            let disk = disk.transpose().with_context(name)?;
            let partial_tree = vm.partial_tree.as_ref();
            let partial_tree = partial_tree.map(|file| files.add(file, "partial-tree", vm));
            let partial_tree = partial_tree.transpose().with_context(name)?;
            files.of_vms.push(VmFiles {
                kernel,
                initrd,
                disk,
                partial_tree,
            });
        }
        Ok(files)
    }

    fn add(&mut self, file: &Path, kind: &str, vm: &Vm) -> Result<usize> {
        if let Some(known) = self.sizes.iter().position(|(path, _)| path == file) {
            self.names[known].1 += &format!(", {kind} of {}", vm.name);
            return Ok(known);
        }
        let size = std::fs::metadata(file)
            .with_context(|| format!("{} cannot be read", file.display()))?
            .len();
        ensure!(size > 0, "{} is empty", file.display());
        self.sizes.push((file.to_owned(), size));
        let name = format!("{kind}-{}.img", vm.name);
        self.names.push((name, format!("{kind} of {}", vm.name)));
        Ok(self.sizes.len() - 1)
    }
}

/// The hypervisor's image, and what the VMs boot: fetched and built as far as the plan names no
/// files.
fn files(plan: &Plan, progress: &Progress) -> Result<(Vec<u8>, Files)> {
    let vms = &plan.system.vms;
    let has_all = |vm: &Vm| vm.kernel.is_some() && vm.initrd.is_some();
    let builds = plan.hypervisor.is_none() || !vms.iter().all(has_all);
    let paths = if builds {
        Some(Paths::discover()?)
    } else {
        None
    };
    let _lock = (paths.as_ref())
        .map(|paths| prepare::lock(paths, progress))
        .transpose()?;
    let hypervisor = match (&plan.hypervisor, &paths) {
        (Some(file), _) => file.clone(),
        (None, Some(paths)) => prepare::build_bare(paths, "postern", "postern", progress)?.image,
        (None, None) => unreachable!("without an image there are paths"),
    };
    let guests = match &paths {
        Some(paths) if !vms.iter().all(has_all) => {
            let update = prepare::wants_update();
            let linux = crate::config::Linux::Standard;
            let parts = parts::fetch(paths, plan.suite, linux, update, progress)?;
            // Which drivers a board's own devices need, the tool does not know.
            let drivers = Drivers {
                abi: TeeAbi::Smc,
                devices: vms.iter().any(|vm| plan.system.has_virtio(vm)),
            };
            Some(Guests::build(
                paths, plan.suite, vms, drivers, &parts, update, progress,
            )?)
        }
        _ => None,
    };
    let files = Files::of(vms, |vm| {
        Ok(match (&guests, &vm.kernel, &vm.initrd) {
            (Some(guests), ..) => (
                guests.kernel(vm, progress)?,
                guests.initrd(vm, plan.system.has_virtio(vm)),
            ),
            (None, Some(kernel), Some(initrd)) => (kernel.clone(), initrd.clone()),
            (None, ..) => unreachable!("without guests every VM has files"),
        })
    })?;
    let hypervisor = std::fs::read(&hypervisor)
        .with_context(|| format!("the hypervisor {} cannot be read", hypervisor.display()))?;
    Ok((hypervisor, files))
}

fn write(bundle: &Bundle<'_>, notes: &mut Vec<String>) -> Result<()> {
    let out = &bundle.plan.out;
    let save = |name: &str, bytes: &[u8]| stamp::write(&out.join(name), bytes);
    for piece in bundle.pieces() {
        save(&piece.name, &piece.bytes)?;
    }
    save(EFI_TREE, &bundle.efi_tree)?;
    save(GUESTS, &guests(&bundle.modules))?;
    let mut scripts = vec![
        ("boot", script::merged(bundle)),
        ("boot-efi", script::efi(bundle)),
    ];
    match bundle.stage {
        Some(stage) => {
            save(FIT, &fit::write(bundle))?;
            scripts.push(("boot-fit", script::fit(bundle, stage)));
        }
        None => notes.push(format!(
            "RAM has no room for {FIT} beside what it holds, so there is none"
        )),
    }
    match script::own_tree(bundle) {
        Ok(text) => scripts.push(("boot-own-tree", text)),
        Err(why) => notes.push(format!("there is no boot-own-tree.scr: {why}")),
    }
    for (name, text) in scripts {
        save(&format!("{name}.cmd"), text.as_bytes())?;
        save(&format!("{name}.scr"), &script::image(&text)?)?;
    }
    save(PAGE, page::write(bundle).as_bytes())
}

/// The VMs that do not start without OP-TEE, and whether any may have it.
pub(crate) fn wants_optee(system: &System) -> (Vec<&str>, bool) {
    let must = |vm: &&Vm| vm.tee == Tee::Required;
    let names = (system.vms.iter().filter(must)).map(|vm| vm.name.as_str());
    let any = system.vms.iter().any(|vm| vm.tee != Tee::None);
    (names.collect(), any)
}

#[cfg(test)]
mod tests;
