// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Requests of a suspended call to the normal world: `OPTEE_SMC_RPC_FUNC_*` of `optee_smc.h`, and
//! the commands of `optee_rpc_cmd.h`.

use core::fmt;

/// An RPC function: the low 16 bits of a0, `OPTEE_SMC_RPC_FUNC_*`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Function(u16);

impl Function {
    /// `OPTEE_SMC_RPC_FUNC_ALLOC`: memory for RPC messages, bytes in a1. The answer's address
    /// is in a1:a2, its cookie in a4:a5; zeroes mean failure.
    pub const ALLOC: Self = Self(0);
    /// `OPTEE_SMC_RPC_FUNC_FREE`: give such memory back, cookie in a1:a2.
    pub const FREE: Self = Self(2);
    /// `OPTEE_SMC_RPC_FUNC_FOREIGN_INTR`: an interrupt for the normal world is pending.
    pub const FOREIGN_INTR: Self = Self(4);
    /// `OPTEE_SMC_RPC_FUNC_CMD`: execute the command in the message, cookie in a1:a2.
    pub const CMD: Self = Self(5);

    /// Returns the function with this number.
    #[inline]
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// Returns its number.
    #[inline]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Returns a0 of a call that requests it: `OPTEE_SMC_RPC_VAL`.
    #[inline]
    pub const fn a0(self) -> u64 {
        0xffff_0000 | self.0 as u64
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rpc::Function({})", self.0)
    }
}

/// A command in an RPC message: `OPTEE_RPC_CMD_*`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Command(pub u32);

impl Command {
    /// `OPTEE_RPC_CMD_LOAD_TA`: read a trusted application; UUID in value 0, into memref 1.
    pub const LOAD_TA: Self = Self(0);
    /// `OPTEE_RPC_CMD_RPMB`: frames for the RPMB device, done by the supplicant.
    pub const RPMB: Self = Self(1);
    /// `OPTEE_RPC_CMD_FS`: file operations of secure storage.
    pub const FS: Self = Self(2);
    /// `OPTEE_RPC_CMD_GET_TIME`: seconds and nanoseconds in value 0.
    pub const GET_TIME: Self = Self(3);
    /// `OPTEE_RPC_CMD_NOTIFICATION`: wait for or send a notification.
    pub const NOTIFICATION: Self = Self(4);
    /// `OPTEE_RPC_CMD_SUSPEND`: sleep, milliseconds in value 0.a.
    pub const SUSPEND: Self = Self(5);
    /// `OPTEE_RPC_CMD_SHM_ALLOC`: shared memory; type, size, alignment in value 0. The answer
    /// replaces the parameter by a temporary memory reference.
    pub const SHM_ALLOC: Self = Self(6);
    /// `OPTEE_RPC_CMD_SHM_FREE`: give it back; type and cookie in value 0.
    pub const SHM_FREE: Self = Self(7);
    /// `OPTEE_RPC_CMD_SQL_FS_RESERVED`: not used any more.
    pub const SQL_FS_RESERVED: Self = Self(8);
    /// `OPTEE_RPC_CMD_GPROF`: profile of a trusted application.
    pub const GPROF: Self = Self(9);
    /// `OPTEE_RPC_CMD_SOCKET`: socket operations.
    pub const SOCKET: Self = Self(10);
    /// `OPTEE_RPC_CMD_FTRACE`: call trace of a trusted application.
    pub const FTRACE: Self = Self(11);
    /// `OPTEE_RPC_CMD_SUPP_PLUGIN`: a plugin of the supplicant.
    pub const SUPP_PLUGIN: Self = Self(12);
    /// `OPTEE_RPC_CMD_BENCH_REG`: hand over a physical address for time stamps.
    pub const BENCH_REG: Self = Self(20);
    /// `OPTEE_RPC_CMD_I2C_TRANSFER`: a transfer on an I2C bus of the normal world.
    pub const I2C_TRANSFER: Self = Self(21);
    /// `OPTEE_RPC_CMD_RPMB_PROBE_RESET`: begin enumerating RPMB devices, by the kernel.
    pub const RPMB_PROBE_RESET: Self = Self(22);
    /// `OPTEE_RPC_CMD_RPMB_PROBE_NEXT`: the next RPMB device.
    pub const RPMB_PROBE_NEXT: Self = Self(23);
    /// `OPTEE_RPC_CMD_RPMB_FRAMES`: frames for the RPMB device, done by the kernel.
    pub const RPMB_FRAMES: Self = Self(24);
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rpc::Command({})", self.0)
    }
}

/// `THREAD_RPC_MAX_NUM_PARAMS`: how many parameters an RPC message has at most.
pub const MAX_PARAMS: usize = 4;

/// `OPTEE_RPC_SHM_TYPE_APPL`: memory that a program of the normal world sees as well.
pub const SHM_TYPE_APPL: u64 = 0;
/// `OPTEE_RPC_SHM_TYPE_KERNEL`: memory of the normal world's kernel.
pub const SHM_TYPE_KERNEL: u64 = 1;
/// `OPTEE_RPC_SHM_TYPE_GLOBAL`: memory that several programs see.
pub const SHM_TYPE_GLOBAL: u64 = 2;

/// `OPTEE_RPC_NOTIFICATION_WAIT`: value 0.a: sleep until the notification in 0.b arrives, at
/// most 0.c milliseconds (0: without a limit).
pub const NOTIFICATION_WAIT: u64 = 0;
/// `OPTEE_RPC_NOTIFICATION_SEND`: value 0.a: wake the calls that wait for the notification in 0.b.
pub const NOTIFICATION_SEND: u64 = 1;
