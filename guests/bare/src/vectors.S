// SPDX-License-Identifier: Apache-2.0 OR MIT
// Exceptions of the program itself. They go to Rust, which ends the program, unless the instruction
// stands between `probes_start` and `probes_end`: those are expected to fail, and are skipped with
// the syndrome in x18. What one of them has jumped to ends where it would have come back to. An interrupt on the program's own stack is for who waits in
// `timer::interrupt_after`; elsewhere interrupts are masked.

.macro to_rust kind
    .balign 0x80
    sub     sp, sp, #288
    stp     x0, x1, [sp, #0]
    mov     x1, #\kind
    b       save_rest
.endm

// Puts the time into TPIDR_EL0 and masks interrupts where it came from. It stays pending.
.macro interrupted
    .balign 0x80
    str     x0, [sp, #-16]!
    mrs     x0, cntvct_el0
    msr     tpidr_el0, x0
    mrs     x0, CurrentEL
    tbnz    x0, #3, 1f
    mrs     x0, spsr_el1
    orr     x0, x0, #(1 << 7)
    msr     spsr_el1, x0
    b       2f
1:  mrs     x0, spsr_el2
    orr     x0, x0, #(1 << 7)
    msr     spsr_el2, x0
2:  ldr     x0, [sp], #16
    eret
.endm

.text
.balign 0x800
vectors:
    to_rust 0
    to_rust 1
    to_rust 2
    to_rust 3
    to_rust 4
    interrupted
    to_rust 6
    to_rust 7
    to_rust 8
    to_rust 9
    to_rust 10
    to_rust 11
    to_rust 12
    to_rust 13
    to_rust 14
    to_rust 15

save_rest:
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    mrs     x0, CurrentEL
    cmp     x0, #(2 << 2)
    b.eq    1f
    mrs     x2, elr_el1
    mrs     x3, spsr_el1
    mrs     x4, esr_el1
    mrs     x5, far_el1
    b       2f
1:  mrs     x2, elr_el2
    mrs     x3, spsr_el2
    mrs     x4, esr_el2
    mrs     x5, far_el2
2:  stp     x30, x2, [sp, #240]
    stp     x3, x4, [sp, #256]
    stp     x5, x1, [sp, #272]
    mov     x0, sp
    bl      {exception}
    ldp     x30, x2, [sp, #240]
    ldr     x3, [sp, #256]
    mrs     x0, CurrentEL
    cmp     x0, #(2 << 2)
    b.eq    3f
    msr     elr_el1, x2
    msr     spsr_el1, x3
    b       4f
3:  msr     elr_el2, x2
    msr     spsr_el2, x3
4:  ldp     x28, x29, [sp, #224]
    ldp     x26, x27, [sp, #208]
    ldp     x24, x25, [sp, #192]
    ldp     x22, x23, [sp, #176]
    ldp     x20, x21, [sp, #160]
    ldp     x18, x19, [sp, #144]
    ldp     x16, x17, [sp, #128]
    ldp     x14, x15, [sp, #112]
    ldp     x12, x13, [sp, #96]
    ldp     x10, x11, [sp, #80]
    ldp     x8, x9, [sp, #64]
    ldp     x6, x7, [sp, #48]
    ldp     x4, x5, [sp, #32]
    ldp     x2, x3, [sp, #16]
    ldp     x0, x1, [sp, #0]
    add     sp, sp, #288
    eret

// x0 = eighteen registers, in and out. Back: the syndrome where the instruction itself was refused,
// else zero.
.macro conduit name, instruction
.global \name
\name:
    stp     x29, x30, [sp, #-32]!
    mov     x29, sp
    str     x19, [sp, #16]
    mov     x19, x0
    ldp     x2, x3, [x19, #16]
    ldp     x4, x5, [x19, #32]
    ldp     x6, x7, [x19, #48]
    ldp     x8, x9, [x19, #64]
    ldp     x10, x11, [x19, #80]
    ldp     x12, x13, [x19, #96]
    ldp     x14, x15, [x19, #112]
    ldp     x16, x17, [x19, #128]
    ldp     x0, x1, [x19, #0]
    mov     x18, #0
    \instruction
    stp     x0, x1, [x19, #0]
    stp     x2, x3, [x19, #16]
    stp     x4, x5, [x19, #32]
    stp     x6, x7, [x19, #48]
    stp     x8, x9, [x19, #64]
    stp     x10, x11, [x19, #80]
    stp     x12, x13, [x19, #96]
    stp     x14, x15, [x19, #112]
    stp     x16, x17, [x19, #128]
    mov     x0, x18
    ldr     x19, [sp, #16]
    ldp     x29, x30, [sp], #32
    ret
.endm

.global probes_start
probes_start:
    conduit call_smc, "smc #0"
    conduit call_hvc, "hvc #0"
    conduit call_smc_1, "smc #1"
    conduit call_hvc_1, "hvc #1"

// x0 = address. Back: x0 = what is there, x1 = syndrome or zero.
.global probe_load
probe_load:
    mov     x18, #0
    ldr     x0, [x0]
    mov     x1, x18
    ret

// x0 = address, x1 = what to put there. Back: x0 = syndrome or zero.
.global probe_store
probe_store:
    mov     x18, #0
    str     x1, [x0]
    mov     x0, x18
    ret

// The same with other widths.
.macro probe_load_as name, instruction
.global \name
\name:
    mov     x18, #0
    \instruction
    mov     x1, x18
    ret
.endm

.macro probe_store_as name, instruction
.global \name
\name:
    mov     x18, #0
    \instruction
    mov     x0, x18
    ret
.endm

    probe_load_as probe_load_8, "ldrb w0, [x0]"
    probe_load_as probe_load_16, "ldrh w0, [x0]"
    probe_load_as probe_load_32, "ldr w0, [x0]"
    probe_load_as probe_load_pair, "ldp w0, w2, [x0]"
    probe_store_as probe_store_8, "strb w1, [x0]"
    probe_store_as probe_store_16, "strh w1, [x0]"
    probe_store_as probe_store_32, "str w1, [x0]"
    probe_store_as probe_store_pair, "stp w1, w1, [x0]"

// x0 = where to go, x1 = what is to be in x0 there. Whatever exception comes of it ends it. Back: its
// syndrome.
.global probe_jump
probe_jump:
    stp     x29, x30, [sp, #-16]!
    mov     x29, sp
    mov     x18, #0
    mov     x16, x0
    mov     x0, x1
    blr     x16
    mov     x0, x18
    ldp     x29, x30, [sp], #16
    ret
.global probes_end
probes_end:
