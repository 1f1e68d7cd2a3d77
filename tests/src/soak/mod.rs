// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The soak test: a VM repeatedly starts, enters a state and is ended in it, while its neighbours
//! work.
//!
//! A cycle is one life of VM `c`: it starts, opens sessions, enters a state of `guests/hostile` on
//! purpose, and is killed, reset or paused at a random moment. After each cycle the hypervisor must
//! hold nothing for it; at the end OP-TEE must not either, and all figures are as at the beginning.

mod cycle;
mod devices;
mod few_lives;
mod figures;
mod neighbours;
mod plan;
mod victim;

use crate::masked::{self, Masked};
use crate::neighbour::Neighbour;
use crate::watch::Watch;
use crate::{BOOT, Lab, with_edu};
use anyhow::{Context, Error, Result, ensure};
use devices::{Devices, PEER};
use few_lives::Leak;
pub use few_lives::most_cycles;
use figures::{Figures, HEAP, HELD, LOST, MEMORY, SHARED, SHARED_HEAP, compare, counters, number};
use neighbours::Disturbed;
use plan::{Ending, SoakPlan, Turn};
use postern_qemu::config::{TeeAbi, WhenAllOff};
use postern_qemu::prepare::Flavour;
use postern_qemu::session::Session;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use victim::Victim;

/// The VM that is ended.
const VICTIM: &str = "c";
/// The time between two reports of progress.
const PROGRESS: Duration = Duration::from_secs(15);
/// More instances of an application than are possible.
const INSTANCES: u32 = 70;

/// The parameters of the test.
#[derive(Clone, Debug)]
pub struct SoakOptions {
    /// How the guests reach OP-TEE.
    pub abi: TeeAbi,
    /// The number of cycles: over FF-A at most [`most_cycles`].
    pub cycles: u32,
    /// The seed of their order.
    pub seed: u64,
    /// The number of neighbours, 1 or 2. With one, the packaged OP-TEE has room for all.
    pub neighbours: usize,
    /// The states; all when empty.
    pub states: Vec<String>,
    /// The neighbours' cases.
    pub cases: Vec<String>,
    /// Those among them during which a VM must not end, because OP-TEE would keep an application
    /// until the machine restarts. A neighbour that is reset does not run them.
    pub keeping: Vec<String>,
    /// The number of these that each neighbour runs before the first count, so that everything that
    /// stays is there.
    pub warm_up: u32,
    /// The intervals, in cycles, at which a neighbour is paused and at which the last one is reset;
    /// 0 is never.
    pub disturb: (u32, u32),
    /// Whether the VM has devices, and a link to another one.
    pub devices: bool,
    /// Whether the machine has one CPU and QEMU counts instructions; EL2 must not keep interrupts
    /// masked for too long then.
    pub counted: bool,
}

/// The results for a state so far.
#[derive(Default)]
struct Tally {
    times: u32,
    endings: BTreeMap<Ending, u32>,
    took: Duration,
    /// The longest time from the command to the end.
    longest: Duration,
}

/// The machine during the test.
struct Soak {
    victim: Victim,
    plan: SoakPlan,
    /// Whether the VM is on and its guest ready, because the cycle before ended with a reset.
    on: bool,
    /// The hypervisor's figures with the victim off and nothing in progress.
    quiet: Figures,
    /// What the hypervisor holds for the victim when its guest is ready; what is missing here is zero.
    begins_with: Figures,
    tallies: BTreeMap<String, Tally>,
    /// The time from the last command to the end.
    ended_in: Duration,
    disturbed: Disturbed,
    devices: Option<Devices>,
    /// How many times the VM was killed at once, and may not have started.
    perhaps_started: u32,
    /// What OP-TEE leaks, where it does.
    leak: Option<Leak>,
}

/// Runs the test and prints its results; returns whether all is as it was.
///
/// # Errors
///
/// Fails when a cycle does, or the machine cannot be prepared.
pub fn play(lab: &Lab, options: &SoakOptions) -> Result<bool> {
    let mut system = lab.system(if options.devices {
        "soak-devices.toml"
    } else {
        "soak.toml"
    })?;
    system = system.with_abi(options.abi).map_err(Error::msg)?;
    let neighbours = system.vms.iter().filter(|vm| vm.program.is_none());
    let dropped: Vec<String> = neighbours
        .skip(options.neighbours)
        .map(|vm| vm.name.clone())
        .collect();
    system.vms.retain(|vm| !dropped.contains(&vm.name));
    if options.neighbours == 1 {
        system.machine.optee_guests = None;
    }
    if options.devices {
        devices::add_disk(&mut system, &lab.folder)?;
    }
    // The hypervisor's memory is compared with no VM on.
    system.machine.when_all_off = WhenAllOff::Stay;
    if options.counted {
        masked::one_cpu(&mut system);
    }
    let mut machine = lab.machine(&system, Flavour::Shared)?;
    if options.counted {
        masked::count(&mut machine);
    }
    if options.devices {
        with_edu(&mut machine);
    }
    let mut session = Session::boot(&machine, &lab.folder)?;
    let mut neighbours = Vec::new();
    for vm in system.vms.iter().filter(|vm| vm.program.is_none()) {
        let channel = session.vm(&vm.name)?;
        session.expect(channel, BOOT).ready()?;
        neighbours.push(Neighbour::new(&session, channel));
    }
    let watch = Watch::new(session, neighbours);
    let devices = options.devices.then(|| Devices::new(&watch)).transpose()?;
    let victim = Victim::new(watch, VICTIM)?;
    println!("{} cycles, seed {}", options.cycles, options.seed);
    let mut soak = Soak {
        victim,
        plan: SoakPlan::new(Vec::new(), options.seed),
        on: false,
        quiet: Figures::new(),
        begins_with: Figures::new(),
        tallies: BTreeMap::new(),
        ended_in: Duration::ZERO,
        disturbed: Disturbed::default(),
        devices,
        perhaps_started: 0,
        leak: None,
    };
    let done = soak.whole(options);
    if done.is_err() {
        soak.print_tallies();
    }
    done
}

impl Soak {
    fn whole(&mut self, options: &SoakOptions) -> Result<bool> {
        self.quiet = self.memory()?;
        let states = self.states()?;
        let unknown = options.states.iter().find(|name| !states.contains(name));
        ensure!(unknown.is_none(), "there is no state {unknown:?}");
        let states = if options.states.is_empty() {
            states
        } else {
            options.states.clone()
        };
        self.plan = SoakPlan::new(states, options.seed);
        let done = match options.abi {
            TeeAbi::Smc => {
                self.kill()?;
                0
            }
            TeeAbi::Ffa => self.first_life(options)?,
        };
        // What the first life of a VM leaves for good is no leak.
        let mut before = self.all_off().context("at the beginning")?;
        self.all_on()?;
        self.warm_up(options)?;
        before.extend(self.everything().context("at the beginning")?);
        println!("baseline: {before:?}");
        let starts = self.victim.starts;
        self.cost_of_a_start(&before)?;
        self.work(options)?;
        self.cycles(options, done)?;
        self.rest()?;
        let mut after = self.everything().context("at the end")?;
        self.subtract_starts(&before, &mut after, starts);
        if options.abi == TeeAbi::Ffa {
            self.use_up_lives(options).context("at the end")?;
        }
        let masked = Masked::ask(&mut self.victim.watch)?;
        after.extend(self.all_off().context("at the end")?);
        self.print_tallies();
        self.disturbed.print();
        for Neighbour {
            name,
            cases,
            rounds,
            ..
        } in &self.victim.watch.neighbours
        {
            println!("{name} passed {cases} cases of xtest, all of them {rounds} times");
        }
        self.judge_devices()?;
        let same = compare(&before, &after);
        masked.judge(options.counted)?;
        Ok(same)
    }

    /// Starts the neighbours' work.
    fn work(&mut self, options: &SoakOptions) -> Result<()> {
        let Watch {
            session,
            neighbours,
            ..
        } = &mut self.victim.watch;
        let last = neighbours.len() - 1;
        for (index, neighbour) in neighbours.iter_mut().enumerate() {
            // The neighbours do not run the same cases at the same time.
            let (late, early) = options.cases.split_at(options.cases.len() / 2 * index);
            let is_reset = index == last && options.disturb.1 != 0;
            let cases = early.iter().chain(late);
            let cases = cases.filter(|case| !is_reset || !options.keeping.contains(case));
            neighbour.work(session, cases.map(String::as_str), 1)?;
        }
        Ok(())
    }

    /// Ends all VMs and returns the figures of the hypervisor's memory.
    fn all_off(&mut self) -> Result<Figures> {
        for neighbour in &mut self.victim.watch.neighbours {
            neighbour.reset();
        }
        for name in self.others() {
            self.victim.order(&format!("vm kill {name}"))?;
            self.victim.off(&name, "killed")?;
        }
        let all_off = |(name, value)| (format!("hypervisor, all VMs off: {name}"), value);
        Ok(self.memory()?.into_iter().map(all_off).collect())
    }

    /// Starts the other VMs again and waits until they are ready.
    fn all_on(&mut self) -> Result<()> {
        if self.devices.is_some() {
            self.victim.order(&format!("vm start {PEER}"))?;
            self.peer_is_ready()?;
        }
        for name in self.neighbours() {
            self.victim.order(&format!("vm start {name}"))?;
            self.victim.started(&name)?;
        }
        while self.victim.watch.neighbours.iter().any(Neighbour::is_away) {
            self.victim.listen("the neighbours' start")?;
        }
        self.unharmed()
    }

    /// Returns the neighbours' names.
    fn neighbours(&self) -> Vec<String> {
        let neighbours = self.victim.watch.neighbours.iter();
        neighbours.map(|one| one.name.clone()).collect()
    }

    /// Returns the names of all VMs that are not ended.
    fn others(&self) -> Vec<String> {
        let peer = self.devices.is_some().then(|| PEER.to_owned());
        self.neighbours().into_iter().chain(peer).collect()
    }

    /// Makes the neighbours run a few cases: what OP-TEE and Linux keep from then on is no leak.
    fn warm_up(&mut self, options: &SoakOptions) -> Result<()> {
        self.work(options)?;
        self.work_on(options.warm_up)
    }

    /// Lets each neighbour run this many more cases, and then rest.
    fn work_on(&mut self, more: u32) -> Result<()> {
        let neighbours = self.victim.watch.neighbours.iter();
        let wanted: Vec<u32> = neighbours.map(|one| one.cases + more).collect();
        while {
            let neighbours = &mut self.victim.watch.neighbours;
            for (neighbour, wanted) in neighbours.iter_mut().zip(&wanted) {
                // The case that it has begun ends first.
                if neighbour.cases + 1 >= *wanted {
                    neighbour.stop();
                }
            }
            !neighbours.iter().all(Neighbour::is_idle)
        } {
            self.victim.listen("the neighbours")?;
        }
        self.unharmed()
    }

    /// Lets the neighbours end their runs.
    fn rest(&mut self) -> Result<()> {
        let neighbours = &mut self.victim.watch.neighbours;
        neighbours.iter_mut().for_each(Neighbour::stop);
        while !self.victim.watch.neighbours.iter().all(Neighbour::is_idle) {
            self.victim.listen("the neighbours' rest")?;
        }
        self.unharmed()
    }

    fn unharmed(&mut self) -> Result<()> {
        let mut neighbours = self.victim.watch.neighbours.iter_mut();
        neighbours.try_for_each(Neighbour::unharmed)
    }

    /// Returns the states of the guest's list, and leaves the VM on.
    fn states(&mut self) -> Result<Vec<String>> {
        self.start()?;
        self.victim.event("ready")?;
        self.victim.send("list")?;
        let mut states = Vec::new();
        loop {
            let item = self.victim.event_of(&["item", "list-end"])?;
            if item["event"] == "list-end" {
                break;
            }
            states.extend(item["state"].as_str().map(str::to_owned));
        }
        Ok(states)
    }

    /// Returns all figures, with the VM off and the neighbours idle. One life of the VM asks
    /// OP-TEE.
    fn everything(&mut self) -> Result<Figures> {
        // A life that has just begun by a reset is as good as any other.
        if !self.on {
            self.start()?;
            self.victim.event("ready")?;
        }
        let alive = self.victim.ask("alive", "alive")?;
        ensure!(alive["ok"] == true, "no TEE: {}", alive["text"]);
        let measured = self
            .victim
            .ask(&format!("measure {INSTANCES}"), "measured")?;
        self.kill()?;
        let mut all = Figures::new();
        let texts = [
            ("shared_heap", SHARED_HEAP),
            ("heap", "OP-TEE: bytes of the heap of c, just created"),
            ("instances", "OP-TEE: applications that c can run at once"),
        ];
        for (name, text) in texts {
            let value = measured[name].as_u64().context("a measurement")?;
            all.insert(text.into(), value);
        }
        self.quiet = self.memory()?;
        for (name, value) in &self.quiet {
            // The neighbours' lists of loaded things grow with their work.
            if name != HEAP {
                all.insert(format!("hypervisor: {name}"), *value);
            }
        }
        for vm in self.neighbours().into_iter().chain([VICTIM.into()]) {
            let wanted = [&HELD[..], &LOST[..]].concat();
            for (name, value) in self.counters(&vm, &wanted)? {
                all.insert(format!("{vm}: {name}"), value);
            }
        }
        Ok(all)
    }

    /// Returns the figures of the hypervisor's memory.
    fn memory(&mut self) -> Result<Figures> {
        let answer = self.victim.order("mem")?;
        let names = MEMORY.iter().chain([&SHARED]);
        names
            .map(|&name| Ok((name.to_owned(), number(&answer.more, name)?)))
            .collect()
    }

    fn counters(&mut self, vm: &str, names: &[&str]) -> Result<Figures> {
        let answer = self.victim.order(&format!("tee stats {vm}"))?;
        counters(&answer, names)
    }

    /// Runs a cycle and the checks after it.
    fn turn(&mut self, cycle: u32, options: &SoakOptions) -> Result<()> {
        let turn = self.plan.take();
        let Turn { state, ending } = turn.clone();
        let what = format!("cycle {cycle}: {state}, {}", ending.name());
        let began = Instant::now();
        self.cycle(cycle, turn).with_context(|| what.clone())?;
        self.check_nothing_held().with_context(|| what.clone())?;
        self.check_seen(&state).with_context(|| what.clone())?;
        let tally = self.tallies.entry(state).or_default();
        tally.times += 1;
        tally.took += began.elapsed();
        tally.longest = tally.longest.max(self.ended_in);
        *tally.endings.entry(ending).or_default() += 1;
        self.disturb(cycle, options.disturb)
            .with_context(|| format!("after {what}"))?;
        self.unharmed().with_context(|| format!("after {what}"))
    }

    /// Runs the cycles after the first `done`.
    fn cycles(&mut self, options: &SoakOptions, done: u32) -> Result<()> {
        let start = Instant::now();
        let mut told = Instant::now();
        for cycle in done + 1..=options.cycles {
            self.turn(cycle, options)?;
            if told.elapsed() > PROGRESS {
                told = Instant::now();
                let took = start.elapsed().as_secs_f32();
                let neighbours = self.victim.watch.neighbours.iter();
                let cases: Vec<String> = neighbours
                    .map(|one| format!("{}: {} cases", one.name, one.cases))
                    .collect();
                println!(
                    "{cycle} of {} cycles, {took:.0} s, {:.2} s per cycle; {}",
                    options.cycles,
                    took / (cycle - done) as f32,
                    cases.join(", ")
                );
            }
        }
        Ok(())
    }

    fn print_tallies(&self) {
        println!("state                   times  seconds each  longest end  ended by");
        for (state, tally) in &self.tallies {
            let Tally {
                times,
                endings,
                took,
                longest,
            } = tally;
            let endings: Vec<String> = endings
                .iter()
                .map(|(ending, times)| format!("{} {times}", ending.name()))
                .collect();
            println!(
                "{state:22}  {times:5}  {:12.2}  {:11.2}  {}",
                took.as_secs_f32() / *times as f32,
                longest.as_secs_f32(),
                endings.join("; ")
            );
        }
    }
}
