// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Translates the machine into QEMU's arguments, and runs QEMU as a child process.

use crate::board::{Board, Serial};
use crate::config::{Disk, MachineConfig, System, Tee};
use crate::console::Channel;
use crate::prepare::{Artifacts, Load};
use crate::signals;
use anyhow::{Context, Result};
use guest_agent::role::Root;
use postern_ctl::messages::{HypervisorEvent, MonitorMessage};
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The last line of a Linux that powers its machine off.
const LINUX_OFF: &str = "reboot: Power down";

/// The host's knowledge of a VM that will run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmInfo {
    /// The VM's name.
    pub name: String,
    /// The number of vCPUs.
    pub vcpus: u32,
    /// The VM's RAM in KiB.
    pub memory_kib: u64,
    /// Whether the VM has the TEE.
    pub tee: bool,
    /// Whether the VM runs a bare-metal program instead of Linux with the agent.
    pub program: bool,
    /// Whether its root file system is on a disk.
    pub disk: bool,
    /// Whether another guest serves that disk.
    pub served: bool,
    /// Whether it reaches the host over the network.
    pub network: bool,
}

impl VmInfo {
    /// Returns what is known of a VM from its description.
    #[must_use]
    pub fn of(vm: &crate::config::Vm) -> Self {
        Self {
            name: vm.name.clone(),
            vcpus: vm.vcpus,
            memory_kib: vm.memory.kib(),
            tee: vm.tee != Tee::None,
            program: vm.program.is_some(),
            disk: false,
            served: false,
            network: false,
        }
    }
}

/// How the consoles reach the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wiring {
    /// The hypervisor multiplexes them.
    Multiplexed,
    /// There is no hypervisor: the UART belongs to the one guest.
    Plain,
}

/// What runs first on the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// The first flash bank: TF-A and OP-TEE.
    Flash(PathBuf),
    /// TF-A's BL31, an ELF file: the first CPU starts at its entry. The rest of the firmware is in
    /// RAM.
    Bl31(PathBuf),
    /// QEMU's own PSCI and nothing else; QEMU starts this image as it starts a kernel.
    Kernel(PathBuf),
}

/// A machine that QEMU can start.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The path of QEMU's program.
    pub qemu: PathBuf,
    /// The board.
    pub board: &'static Board,
    /// The argument of `-M`: the board's model, or a variant of it.
    pub model: String,
    /// The CPU model: the argument of `-cpu`, unless the board has its own.
    pub cpu: String,
    /// The argument of `-smp`.
    pub cpus: u32,
    /// The argument of `-m` in MiB.
    pub memory_mib: u64,
    /// What runs first on the machine.
    pub firmware: Firmware,
    /// The boot tree that QEMU places; its own when absent, or one among the loads.
    pub tree: Option<PathBuf>,
    /// The files that are in RAM at reset.
    pub loads: Vec<Load>,
    /// The arguments for the devices on the PCIe bus.
    pub pci: Vec<OsString>,
    /// Additional arguments.
    pub extra: Vec<OsString>,
    /// The VMs, in the order of the boot tree.
    pub vms: Vec<VmInfo>,
    /// How the consoles reach the host.
    pub wiring: Wiring,
}

impl Machine {
    /// Returns the machine for what was prepared. Without a hypervisor the first VM's system has
    /// the whole machine.
    pub fn new(artifacts: &Artifacts, system: &System, wiring: Wiring) -> Self {
        let board = artifacts.machine.board.board();
        let cpus = artifacts.machine.cpus;
        let mut vms: Vec<VmInfo> = system.vms.iter().map(VmInfo::of).collect();
        for (vm, role) in vms.iter_mut().zip(&artifacts.roles) {
            vm.disk = role.root != Root::Ram;
            vm.served = matches!(role.root, Root::Served(_));
            vm.network = role.gateway.is_some();
        }
        if wiring == Wiring::Plain {
            vms.truncate(1);
            for vm in &mut vms {
                if !vm.program {
                    vm.name = "native".into();
                }
                vm.vcpus = cpus;
                vm.memory_kib = artifacts.machine.memory_mib << 10;
                vm.tee = true;
            }
        }
        Self {
            qemu: artifacts.qemu.clone(),
            board,
            model: artifacts.machine.model(),
            cpu: board.cpu(artifacts.machine.cpu.as_deref()).into(),
            cpus,
            memory_mib: artifacts.machine.memory_mib,
            firmware: artifacts.firmware.clone(),
            tree: artifacts.placed_by_qemu.then(|| artifacts.tree.clone()),
            loads: artifacts.loads.clone(),
            pci: pci_arguments(&artifacts.machine),
            extra: Vec::new(),
            vms,
            wiring,
        }
    }

    /// Returns QEMU's arguments. The console's serial port is standard input and output; the secure
    /// world's goes to a file.
    pub fn arguments(&self, secure_log: &Path) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        let mut option = |name: &str, value: OsString| arguments.extend([name.into(), value]);
        option("-M", self.model.clone().into());
        if self.board.cpu.is_none() {
            option("-cpu", self.cpu.clone().into());
        }
        option("-smp", self.cpus.to_string().into());
        option("-m", self.memory_mib.to_string().into());
        option("-display", "none".into());
        option("-monitor", "none".into());
        option("-net", "none".into());
        option("-chardev", "stdio,id=uart,mux=off,signal=off".into());
        for serial in self.board.serials {
            option(
                "-serial",
                match serial {
                    Serial::Console => "chardev:uart".into(),
                    Serial::Secure => with_path("file:", secure_log, ""),
                },
            );
        }
        match &self.firmware {
            Firmware::Flash(file) => {
                option(
                    "-drive",
                    with_path("if=pflash,unit=0,format=raw,readonly=on,file=", file, ""),
                );
            }
            Firmware::Bl31(file) => {
                option("-device", with_path("loader,file=", file, ",cpu-num=0"));
            }
            Firmware::Kernel(file) => option("-kernel", file.clone().into()),
        }
        if let Some(tree) = &self.tree {
            option("-dtb", tree.clone().into());
        }
        for load in &self.loads {
            let address = format!(",addr={:#x},force-raw=on", load.address);
            option("-device", with_path("loader,file=", &load.file, &address));
        }
        arguments.extend(self.pci.iter().cloned());
        arguments.push("-no-reboot".into());
        arguments.extend(self.extra.iter().cloned());
        arguments
    }
}

/// Returns the arguments for a machine's disks and network cards. A virtio device without `iommu_platform` would pass the
/// SMMU by.
fn pci_arguments(machine: &MachineConfig) -> Vec<OsString> {
    const BEHIND_SMMU: &str = "iommu_platform=on,disable-legacy=on";
    let mut arguments: Vec<OsString> = Vec::new();
    let files = machine.disks.iter().filter_map(|disk| disk.file.as_ref());
    for (index, file) in files.enumerate() {
        let format = Disk::format(file);
        let drive = format!("if=none,id=disk{index},format={format},file=");
        arguments.extend(["-drive".into(), with_path(&drive, file, "")]);
        let device = format!("virtio-blk-pci,drive=disk{index},{BEHIND_SMMU}");
        arguments.extend(["-device".into(), device.into()]);
    }
    for (index, net) in machine.nets.iter().enumerate() {
        let rules = net.rules();
        let backend = format!("user,id=net{index}{rules}");
        arguments.extend(["-netdev".into(), backend.into()]);
        let device = format!("virtio-net-pci,netdev=net{index},romfile=,{BEHIND_SMMU}");
        arguments.extend(["-device".into(), device.into()]);
    }
    arguments
}

/// Inserts a path into a comma-separated QEMU option, in which a comma is written twice.
fn with_path(before: &str, path: &Path, after: &str) -> OsString {
    let path = path.to_string_lossy().replace(',', ",,");
    format!("{before}{path}{after}").into()
}

/// A running QEMU. Dropping this value ends it.
#[derive(Debug)]
pub struct Qemu {
    child: Child,
}

impl Qemu {
    /// Starts the machine, with its log files in `folder`; returns it and the two ends of the UART.
    ///
    /// # Errors
    ///
    /// Fails when a file cannot be made or QEMU cannot be started.
    pub fn start(machine: &Machine, folder: &Path) -> Result<(Self, ChildStdin, ChildStdout)> {
        let errors = folder.join("qemu.log");
        let errors =
            File::create(&errors).with_context(|| format!("cannot write {}", errors.display()))?;
        let mut command = Command::new(&machine.qemu);
        command
            .args(machine.arguments(&folder.join("optee.log")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors);
        signals::kill_with_parent(&mut command);
        let mut child = command.spawn().with_context(|| {
            format!(
                "cannot start {}: is QEMU installed?",
                machine.qemu.display()
            )
        })?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let qemu = Self { child };
        let (input, output) = pipes.context("QEMU has no pipes")?;
        Ok((qemu, input, output))
    }

    /// Waits for QEMU to end; returns `None` when it did not end in time.
    ///
    /// # Errors
    ///
    /// Fails as waitpid(2) does.
    pub fn wait(&mut self, within: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns what ends QEMU when the software on the machine powers it off.
    #[must_use]
    pub fn power_switch(&self, machine: &Machine) -> PowerSwitch {
        PowerSwitch {
            wiring: machine.wiring,
            process: (!machine.board.powers_off).then(|| self.child.id()),
        }
    }

    /// Ends QEMU now.
    pub fn kill(&mut self) {
        // The process may have ended already; the wait leaves no zombie.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ends QEMU when the software on the machine powers it off, on a board on which QEMU does not
/// notice. It goes by the last line of that software.
#[derive(Clone, Copy, Debug)]
pub struct PowerSwitch {
    wiring: Wiring,
    /// QEMU's process; none where QEMU notices itself, or was told.
    process: Option<u32>,
}

impl PowerSwitch {
    /// Takes a line of a console.
    pub fn take_line(&mut self, channel: Channel, line: &str) {
        let is_last = match (self.wiring, channel) {
            (Wiring::Plain, _) => line.trim_end().ends_with(LINUX_OFF),
            // What a guest prints powers nothing off.
            (Wiring::Multiplexed, Channel::Vm(_)) => false,
            (Wiring::Multiplexed, _) => matches!(
                MonitorMessage::find(line),
                Some(Ok(MonitorMessage::Event(
                    HypervisorEvent::AllOff | HypervisorEvent::BootError { .. }
                )))
            ),
        };
        if is_last && let Some(process) = self.process.take() {
            signals::terminate(process);
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::BoardName;
    use crate::fake_qemu;

    fn machine() -> Machine {
        Machine {
            qemu: "qemu-system-aarch64".into(),
            board: BoardName::Virt.board(),
            model: "virt,secure=on".into(),
            cpu: "cortex-a72".into(),
            cpus: 4,
            memory_mib: 3072,
            firmware: Firmware::Flash("/x,y/flash.img".into()),
            tree: Some("/x/boot.dtb".into()),
            loads: vec![Load {
                file: "/x/a,b".into(),
                address: 0x4020_0000,
            }],
            pci: Vec::new(),
            extra: vec!["-d".into(), "int".into()],
            vms: Vec::new(),
            wiring: Wiring::Multiplexed,
        }
    }

    #[test]
    fn arguments_order_serials_and_double_commas() {
        let arguments = machine().arguments(Path::new("/out/optee.log"));
        let arguments: Vec<_> = arguments
            .iter()
            .map(|word| word.to_string_lossy())
            .collect();
        let serials: Vec<_> = arguments
            .windows(2)
            .filter(|pair| pair[0] == "-serial")
            .map(|pair| pair[1].clone())
            .collect();
        assert_eq!(serials, ["chardev:uart", "file:/out/optee.log"]);
        assert!(
            arguments
                .iter()
                .any(|word| word == "loader,file=/x/a,,b,addr=0x40200000,force-raw=on")
        );
        assert!(
            arguments
                .iter()
                .any(|word| word.ends_with("file=/x,,y/flash.img"))
        );
        assert!(arguments.join(" ").ends_with("-no-reboot -d int"));
    }

    #[test]
    fn no_pci_device_passes_the_smmu_by() {
        let text = "[machine]\niommu = true\n[[machine.disk]]\nfile = \"/x,y/d\"\n\
                    [[machine.net]]\nforward = [\"tcp:2222:22\"]\n[[vm]]\nname = \"a\"";
        let system = System::parse(text).expect("a system");
        let machine = Machine {
            pci: pci_arguments(&system.machine),
            ..machine()
        };
        let arguments = machine.arguments(Path::new("/out/optee.log"));
        let words = |text: &&OsString| text.to_string_lossy().contains("-pci,");
        let devices: Vec<_> = arguments.iter().filter(words).collect();
        assert_eq!(devices.len(), 2, "{arguments:?}");
        for device in devices {
            let text = device.to_string_lossy();
            assert!(
                text.ends_with(",iommu_platform=on,disable-legacy=on"),
                "{text}"
            );
        }
        let has = |word: &str| arguments.iter().any(|argument| *argument == word);
        assert!(has("if=none,id=disk0,format=raw,file=/x,,y/d"));
        assert!(has("user,id=net0,hostfwd=tcp:127.0.0.1:2222-:22"));
    }

    #[test]
    fn zcu102_has_its_own_cpus_and_no_flash() {
        let machine = Machine {
            board: BoardName::Zcu102.board(),
            model: "xlnx-zcu102,secure=on,virtualization=on".into(),
            firmware: Firmware::Bl31("/x,y/bl31.elf".into()),
            tree: None,
            ..machine()
        };
        let arguments = machine.arguments(Path::new("/out/optee.log"));
        let text: Vec<_> = arguments
            .iter()
            .map(|word| word.to_string_lossy())
            .collect();
        let text = text.join(" ");
        assert!(
            text.contains("-serial chardev:uart -serial file:/out/optee.log"),
            "{text}"
        );
        assert!(
            text.contains("-device loader,file=/x,,y/bl31.elf,cpu-num=0"),
            "{text}"
        );
        for absent in ["-cpu", "pflash", "-dtb"] {
            assert!(!text.contains(absent), "{text}");
        }
    }

    #[test]
    fn switch_ends_qemu_at_the_hypervisor_s_last_line() {
        let folder = tempfile::tempdir().expect("a folder");
        // As QEMU does, the script ends well when it is asked to.
        let script = "trap 'exit 0' TERM\necho\nwhile :; do sleep 0.05; done";
        let mut machine = fake_qemu::machine(folder.path(), script, &["a"]);
        machine.board = BoardName::Zcu102.board();
        let (mut qemu, _input, output) = Qemu::start(&machine, folder.path()).expect("started");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut String::new())
            .expect("a line");
        let mut power = qemu.power_switch(&machine);
        let end = r#"@postern {"event":"all-off"}"#;
        // What a guest prints does nothing.
        power.take_line(Channel::Vm(1), end);
        power.take_line(Channel::Hypervisor, "reboot: Power down");
        let waited = qemu.wait(Duration::from_millis(100)).expect("waited");
        assert!(waited.is_none());
        power.take_line(Channel::Hypervisor, end);
        let status = qemu.wait(Duration::from_secs(10)).expect("waited");
        assert!(status.expect("ended").success());
    }

    #[test]
    fn missing_qemu_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let machine = Machine {
            qemu: "/nonexistent/qemu".into(),
            ..machine()
        };
        let error = Qemu::start(&machine, folder.path()).expect_err("no QEMU");
        assert!(
            format!("{error:#}").contains("is QEMU installed?"),
            "{error:#}"
        );
    }

    #[test]
    fn dropped_handle_kills_qemu() {
        let folder = tempfile::tempdir().expect("a folder");
        let machine = fake_qemu::machine(folder.path(), "echo $$\nexec sleep 1000", &[]);
        let (mut qemu, _input, output) = Qemu::start(&machine, folder.path()).expect("started");
        let mut pid = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut pid)
            .expect("a line");
        let process = PathBuf::from(format!("/proc/{}", pid.trim()));
        assert!(process.exists());
        assert!(
            qemu.wait(Duration::from_millis(50))
                .expect("waited")
                .is_none()
        );
        drop(qemu);
        assert!(!process.exists());
    }
}
