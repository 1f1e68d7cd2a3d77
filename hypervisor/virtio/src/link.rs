// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A link: network devices of several VMs, between which frames are copied, or the consoles of two
//! (`link/stream.rs`).
//!
//! With two ports it is a wire. A frame goes to the other end, and waits in the sender's ring while the other end has no
//! buffer for it ([`Link::expire`] drops it in the end). With more ports it is a switch. It knows the address that each
//! port was given and learns no others, so that no port takes the frames of another; a frame to an address that it does
//! not know goes to all. Where a port has no buffer, the frame is lost for it, so that no port stops the others.
//!
//! No memory is shared: frames are copied (`link/frame.rs`). One call moves a bounded number of frames. The VM that
//! makes the access pays for it, and makes the access again where more is left.

mod frame;
mod port_set;
mod stream;

use crate::console::Console;
use crate::mmio::{Device, Event, Transport};
use crate::net::{MacAddress, Net, QUEUES, RECEIVE, TRANSMIT};
use crate::queue::{ChainError, MAX_SIZE, RingError};
use crate::ram::GuestRam;
use frame::Frame;
use port_set::PortSet;
use postern_base::ids::MAX_VMS;
use postern_base::mmio::Access;

/// What one call may cost: the number of descriptors that are loaded, about. Thirty-two frames of one descriptor at
/// either end.
const BUDGET: u32 = 64;
/// The most descriptors of a chain that a frame is delivered to: its sender pays for each. A device may have such a limit
/// (2.7.4.2), and Linux uses one or two.
const MOST_RECEIVING: u16 = 16;

/// What a port's VM has sent and received: frames, or the bytes of a console.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// The frames that the VM has sent and that were delivered to a port at least, or the bytes that were delivered.
    pub sent: u64,
    /// The frames or bytes that the VM has received.
    pub received: u64,
    /// The frames that the VM has sent and that no port has received, and those that it had no buffer for. Of bytes, those
    /// that it has sent and that found no room, and those that waited for its buffers when it ended.
    pub dropped: u64,
}

impl Counters {
    /// Returns the sums of two ports' counters. They wrap, as the counters do: a guest makes up the lengths of what it sends.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            sent: self.sent.wrapping_add(other.sent),
            received: self.received.wrapping_add(other.received),
            dropped: self.dropped.wrapping_add(other.dropped),
        }
    }
}

/// The result of a driver's access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The value read, or zero for a write.
    pub value: u64,
    /// Whether more is to do than one call does: the driver makes the same access again.
    pub is_unfinished: bool,
    /// Whether interrupt lines or frames that wait may have changed.
    pub has_changed: bool,
}

/// What an interrupt line has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineChange {
    /// The port.
    pub port: usize,
    /// The level now.
    pub level: bool,
    /// Whether the line was high before, too: it falls and rises, since its driver has not acknowledged all.
    pub is_again: bool,
}

/// What a port is to its driver. One type for both kinds, so that their common code is there once.
#[derive(Debug)]
enum Card<'m> {
    /// A network device.
    Net(Net),
    /// A console.
    Console(Console<'m>),
}

impl Device for Card<'_> {
    fn id(&self) -> u32 {
        match self {
            Self::Net(net) => net.id(),
            Self::Console(console) => console.id(),
        }
    }

    fn features(&self) -> u64 {
        match self {
            Self::Net(net) => net.features(),
            Self::Console(console) => console.features(),
        }
    }

    fn config(&self) -> &[u8] {
        match self {
            Self::Net(net) => net.config(),
            Self::Console(console) => console.config(),
        }
    }
}

/// A VM's end of a link.
#[derive(Debug)]
struct Port<'m> {
    transport: Transport<QUEUES>,
    card: Card<'m>,
    mac: MacAddress,
    /// Whether frames wait in the transmit queue until the other end has buffers.
    is_waiting: bool,
    /// Whether that was so a second ago, and has been ever since.
    is_stalled: bool,
    /// The level of the interrupt line that the VM has seen.
    line: bool,
    /// Whether a line that is high is to rise again.
    is_again: bool,
    counters: Counters,
}

/// What [`Link::transmit_one`] has done.
enum Step {
    /// It has taken a chain, at this cost.
    Taken(u32),
    /// There is nothing to take, or nothing may be taken now.
    Rest,
}

/// A link. A network has no use for the lifetime, that of the memory in which bytes wait.
#[derive(Debug)]
pub struct Link<'m> {
    ports: heapless::Vec<Port<'m>, MAX_VMS>,
    frame: Frame,
    /// The ports whose drivers are set up, as the others were told.
    live: PortSet,
}

impl<'m> Link<'m> {
    /// Returns a network with a port for each address, in this order; at most [`MAX_VMS`].
    pub fn new(addresses: impl IntoIterator<Item = MacAddress>) -> Self {
        let ports = addresses.into_iter().take(MAX_VMS).map(|mac| Port {
            transport: Transport::new(),
            card: Card::Net(Net::new(mac)),
            mac,
            is_waiting: false,
            is_stalled: false,
            line: false,
            is_again: false,
            counters: Counters::default(),
        });
        Self {
            ports: ports.collect(),
            frame: Frame::new(),
            live: PortSet::default(),
        }
    }

    /// Makes the devices of a new link consoles: of two, each is the other's end. `memory` returns where the bytes wait that
    /// are on their way to one.
    pub fn make_consoles(&mut self, mut memory: impl FnMut() -> &'m mut [u8]) {
        for port in &mut self.ports {
            port.card = Card::Console(Console::new(memory()));
        }
    }

    /// Does an access of a port's driver. `rams` has the memory of each port's VM.
    ///
    /// [`Link::changed_lines`] has the interrupts afterwards, as after all that changes a link.
    #[inline]
    pub fn access<R: GuestRam>(&mut self, port: usize, access: Access, rams: &[R]) -> Outcome {
        let Some(end) = self.ports.get_mut(port) else {
            return Outcome {
                value: 0,
                is_unfinished: false,
                has_changed: false,
            };
        };
        let (value, event) = end.transport.access(&mut end.card, access);
        let is_again = end.transport.take_partly_acknowledged();
        end.is_again |= is_again;
        let has_changed = event != Event::None || is_again || end.transport.irq_line() != end.line;
        let is_console = matches!(end.card, Card::Console(_));
        let is_unfinished = match event {
            Event::None => false,
            Event::Notified(TRANSMIT) if !is_console => self.transmit(port, rams),
            Event::Notified(_) if !is_console => self.transmit_waiting(port, rams),
            event => self.handle_rare(port, event, rams),
        };
        Outcome {
            value,
            is_unfinished,
            has_changed,
        }
    }

    /// Handles what is not a network's notification. Returns as [`Link::transmit`] does.
    #[cold]
    #[inline(never)]
    fn handle_rare<R: GuestRam>(&mut self, port: usize, event: Event, rams: &[R]) -> bool {
        let is_unfinished = match event {
            Event::Notified(queue) => self.move_bytes(port, queue, rams),
            _ => false,
        };
        self.refresh(rams);
        is_unfinished
    }

    /// Resets a port: its VM has ended.
    pub fn reset<R: GuestRam>(&mut self, port: usize, rams: &[R]) {
        if let Some(end) = self.ports.get_mut(port) {
            end.transport.reset();
            self.refresh(rams);
        }
    }

    /// Drops the frames that have waited since the last call or longer. Called about once a second.
    pub fn expire<R: GuestRam>(&mut self, rams: &[R]) {
        for port in 0..self.ports.len() {
            if self.ports[port].is_stalled {
                self.drop_all(port, rams);
            }
            let end = &mut self.ports[port];
            end.is_stalled = end.is_waiting;
        }
        self.refresh(rams);
    }

    /// Returns whether some frames wait, so that [`Link::expire`] has something to do.
    pub fn is_waiting(&self) -> bool {
        self.ports.iter().any(|port| port.is_waiting)
    }

    /// Returns what a port's VM has sent and received.
    pub fn counters(&self, port: usize) -> Counters {
        self.ports
            .get(port)
            .map_or(Counters::default(), |port| port.counters)
    }

    /// Returns whether the link is up for a port, which only a network is.
    pub fn is_up(&self, port: usize) -> bool {
        let card = self.ports.get(port).map(|port| &port.card);
        matches!(card, Some(Card::Net(net)) if net.is_up())
    }

    /// Returns what the interrupt lines have done since the last call.
    #[inline]
    pub fn changed_lines(&mut self) -> impl Iterator<Item = LineChange> {
        let ports = self.ports.iter_mut().enumerate();
        ports.filter_map(|(port, end)| {
            let level = end.transport.irq_line();
            let has_changed = core::mem::replace(&mut end.line, level) != level;
            let is_again = core::mem::replace(&mut end.is_again, false) && level && !has_changed;
            (has_changed || is_again).then_some(LineChange {
                port,
                level,
                is_again,
            })
        })
    }

    /// Moves frames of a port's transmit queue. Returns whether more are left that could be moved at once.
    #[inline]
    fn transmit<R: GuestRam>(&mut self, from: usize, rams: &[R]) -> bool {
        let mut budget = BUDGET;
        let mut receivers = PortSet::default();
        self.ports[from].is_waiting = false;
        let is_unfinished = loop {
            if budget == 0 {
                let more = self.is_unfinished(from, rams);
                // The call may be for buffers of the other port, whose retry comes back to frames that wait only.
                self.ports[from].is_waiting = more;
                break more;
            }
            match self.transmit_one(from, rams, &mut receivers) {
                Ok(Step::Taken(cost)) => budget = budget.saturating_sub(cost),
                Ok(Step::Rest) => break false,
                Err(error) => {
                    self.ports[from].transport.break_down(error);
                    break false;
                }
            }
        };
        self.publish(from, TRANSMIT, rams);
        for to in receivers.iter() {
            if !self.ports[from].is_waiting {
                self.mute(to, rams);
            }
            self.publish(to, RECEIVE, rams);
        }
        self.refresh(rams);
        is_unfinished
    }

    /// Returns whether a port has frames to send.
    #[inline]
    fn is_unfinished<R: GuestRam>(&mut self, from: usize, rams: &[R]) -> bool {
        let (Some(end), Some(ram)) = (self.ports.get_mut(from), rams.get(from)) else {
            return false;
        };
        let queue = &mut end.transport.queues()[TRANSMIT];
        queue.listen(ram).unwrap_or_else(|error| {
            end.transport.break_down(error);
            false
        })
    }

    /// Moves the frames that wait for buffers of `to`. Returns as [`Link::transmit`] does.
    fn transmit_waiting<R: GuestRam>(&mut self, to: usize, rams: &[R]) -> bool {
        let mut is_unfinished = false;
        for from in 0..self.ports.len() {
            if from != to && self.ports[from].is_waiting {
                is_unfinished |= self.transmit(from, rams);
            }
        }
        is_unfinished
    }

    /// Moves one frame of a port's transmit queue. An error is the sender's.
    #[inline]
    fn transmit_one<R: GuestRam>(
        &mut self,
        from: usize,
        rams: &[R],
        receivers: &mut PortSet,
    ) -> Result<Step, RingError> {
        let Some(ram) = rams.get(from) else {
            return Ok(Step::Rest);
        };
        let others = self.live.without(PortSet::one(from));
        if others.is_empty() {
            self.drop_all(from, rams);
            return Ok(Step::Rest);
        }
        let queue = &mut self.ports[from].transport.queues()[TRANSMIT];
        // Asked for before it is looked at again: the driver may add a chain meanwhile, and not notify of it.
        if queue.is_empty(ram)? && !queue.listen_to_empty(ram)? {
            return Ok(Step::Rest);
        }
        let is_wire = self.ports.len() == 2;
        if is_wire && !self.has_room(1 - from, rams) {
            self.ports[from].is_waiting = true;
            return Ok(Step::Rest);
        }
        let end = &mut self.ports[from];
        let queue = &mut end.transport.queues()[TRANSMIT];
        let Some(head) = queue.pop_head(ram)? else {
            return Ok(Step::Rest);
        };
        let mut chain = queue.chain(head);
        let has_frame = if is_wire {
            self.frame.find(&mut chain, ram)?
        } else {
            self.frame.fetch(&mut chain, ram)?
        };
        let mut cost = u32::from(chain.descriptors());
        queue.push(ram, &chain)?;
        let mut delivered = false;
        if has_frame {
            end.is_stalled = false;
            let targets = if is_wire {
                others
            } else {
                self.targets(from, others)
            };
            for to in targets.iter() {
                let (is_delivered, more) = self.deliver(to, rams, ram);
                cost += more;
                delivered |= is_delivered;
                *receivers = receivers.with(PortSet::one(to));
            }
        }
        let counters = &mut self.ports[from].counters;
        if delivered {
            counters.sent = counters.sent.wrapping_add(1);
        } else {
            counters.dropped = counters.dropped.wrapping_add(1);
        }
        Ok(Step::Taken(cost))
    }

    /// Returns whether a port has a buffer for a frame. If not, its driver notifies of the next one. A port that is
    /// broken has room: frames to it are lost.
    #[inline]
    fn has_room<R: GuestRam>(&mut self, port: usize, rams: &[R]) -> bool {
        let (Some(end), Some(ram)) = (self.ports.get_mut(port), rams.get(port)) else {
            return true;
        };
        let queue = &mut end.transport.queues()[RECEIVE];
        let has_room = queue.listen(ram);
        has_room.unwrap_or_else(|error| {
            end.transport.break_down(error);
            true
        })
    }

    /// Copies the frame to a port. Returns whether the port has got it, and what that has cost.
    #[inline]
    fn deliver<R: GuestRam>(&mut self, to: usize, rams: &[R], sender: &R) -> (bool, u32) {
        let (Some(end), Some(ram)) = (self.ports.get_mut(to), rams.get(to)) else {
            return (false, 1);
        };
        if !end.transport.is_live() {
            return (false, 1);
        }
        let queue = &mut end.transport.queues()[RECEIVE];
        let mut deliver = || {
            let Some(head) = queue.pop_head(ram)? else {
                return Ok((false, 1));
            };
            let mut chain = queue.chain(head);
            chain.limit(MOST_RECEIVING);
            let is_whole = match self.frame.write(&mut chain, ram, sender) {
                Ok(is_whole) => is_whole,
                Err(ChainError::Buffer) => false,
                Err(ChainError::Ring(error)) => return Err(error),
            };
            if !is_whole {
                chain.discard();
            }
            queue.push(ram, &chain)?;
            Ok((is_whole, u32::from(chain.descriptors())))
        };
        let (is_delivered, cost) = deliver().unwrap_or_else(|error| {
            end.transport.break_down(error);
            (false, 1)
        });
        let counters = &mut end.counters;
        if is_delivered {
            counters.received = counters.received.wrapping_add(1);
        } else {
            counters.dropped = counters.dropped.wrapping_add(1);
        }
        (is_delivered, cost)
    }

    /// Returns the ports that the frame from `from` goes to, of these others: the one with its address, else all. A
    /// frame whose sender has the address of another port goes to none.
    fn targets(&self, from: usize, others: PortSet) -> PortSet {
        let (to, sender) = self.frame.addresses();
        if self.port_of(sender).is_some_and(|port| port != from) {
            return PortSet::default();
        }
        match self.port_of(to) {
            Some(port) => PortSet(others.0 & PortSet::one(port).0),
            None => others,
        }
    }

    /// Returns the port whose device has an address.
    fn port_of(&self, address: MacAddress) -> Option<usize> {
        self.ports.iter().position(|port| port.mac == address)
    }

    /// Drops all frames of a port's transmit queue, without a look at them: at most as many as a queue has. Those that a
    /// vCPU adds meanwhile wait for [`Link::expire`].
    #[cold]
    fn drop_all<R: GuestRam>(&mut self, from: usize, rams: &[R]) {
        let (Some(end), Some(ram)) = (self.ports.get_mut(from), rams.get(from)) else {
            return;
        };
        end.is_waiting = false;
        let queue = &mut end.transport.queues()[TRANSMIT];
        let mut dropped = 0;
        let mut drop_some = || {
            for _ in 0..MAX_SIZE {
                let Some(chain) = queue.pop(ram)? else {
                    break;
                };
                queue.push(ram, &chain)?;
                dropped += 1;
            }
            queue.listen(ram)
        };
        match drop_some() {
            Ok(more) => end.is_waiting = more,
            Err(error) => end.transport.break_down(error),
        }
        end.counters.dropped = end.counters.dropped.wrapping_add(dropped);
        self.publish(from, TRANSMIT, rams);
    }

    /// Shows a driver what was used of a queue.
    #[inline]
    fn publish<R: GuestRam>(&mut self, port: usize, queue: usize, rams: &[R]) {
        let (Some(end), Some(ram)) = (self.ports.get_mut(port), rams.get(port)) else {
            return;
        };
        if !end.transport.is_live() {
            return;
        }
        match end.transport.queues()[queue].publish(ram) {
            Ok(true) => end.transport.interrupt_used(),
            Ok(false) => {}
            Err(error) => end.transport.break_down(error),
        }
    }

    /// Tells a driver not to notify of receive buffers: it does where frames wait for them only.
    #[inline]
    fn mute<R: GuestRam>(&mut self, port: usize, rams: &[R]) {
        let (Some(end), Some(ram)) = (self.ports.get_mut(port), rams.get(port)) else {
            return;
        };
        if end.transport.is_live()
            && let Err(error) = end.transport.queues()[RECEIVE].mute(ram)
        {
            end.transport.break_down(error);
        }
    }

    /// Tells the ports which of the others are live, if that has changed.
    #[inline]
    fn refresh<R: GuestRam>(&mut self, rams: &[R]) {
        // A driver's rings may turn out to be wrong when it is told: at most once for each.
        for _ in 0..=MAX_VMS {
            let live = self.live_now();
            if live == self.live {
                break;
            }
            self.tell(live, rams);
        }
    }

    fn live_now(&self) -> PortSet {
        let live = self.ports.iter().enumerate();
        live.filter(|(_, port)| port.transport.is_live())
            .fold(PortSet::default(), |set, (port, _)| {
                set.with(PortSet::one(port))
            })
    }

    #[cold]
    fn tell<R: GuestRam>(&mut self, live: PortSet, rams: &[R]) {
        self.live = live;
        for port in 0..self.ports.len() {
            let end = &mut self.ports[port];
            let is_live = live.without(PortSet::one(port)) != live;
            if !is_live {
                end.is_waiting = false;
                end.is_stalled = false;
            }
            let is_up = !live.without(PortSet::one(port)).is_empty();
            match &mut end.card {
                Card::Net(net) if net.is_up() != is_up => {
                    net.set_up(is_up);
                    end.transport.config_changed();
                }
                Card::Net(_) => {}
                Card::Console(console) if !is_live => {
                    let dropped = console.remove(usize::MAX) as u64;
                    end.counters.dropped = end.counters.dropped.wrapping_add(dropped);
                }
                // Its driver is to notify of buffers for what waits.
                Card::Console(console) if !console.waiting().is_empty() => continue,
                Card::Console(_) => {}
            }
            if is_live {
                self.mute(port, rams);
            }
        }
        for port in live.iter() {
            if self.ports[port].is_waiting && !self.is_up(port) {
                self.drop_all(port, rams);
            }
        }
    }
}
