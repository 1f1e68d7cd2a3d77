// SPDX-License-Identifier: Apache-2.0 OR MIT
// The way in from a guest and back. EL2 itself always runs with interrupts masked, and its stack
// is empty whenever a guest runs: the frame is always at the same place, at the stack's top.

// What Rust may change. The others it leaves as they are (AAPCS64, 6.1), and so do calls into the
// secure world (SMCCC, 2.6).
.macro save_callers
    sub     sp, sp, #272
    stp     x0, x1, [sp, #0]
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    str     x18, [sp, #144]
    str     x30, [sp, #240]
.endm

// The rest of the frame.
.macro save_others
    str     x19, [sp, #152]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    mrs     x1, elr_el2
    mrs     x2, spsr_el2
    stp     x1, x2, [sp, #248]
.endm

.macro from_guest handler
    .balign 0x80
    save_callers
    save_others
    mov     x0, sp
    bl      \handler
    b       return_to_guest
.endm

// A guest's own doing. Calls, which are by far the most frequent, have a short way: half a frame, and
// ELR and SPSR stay in their registers. ESR_EL2 is the whole of an SMC's or HVC's with immediate zero.
.macro from_guest_by_itself
    .balign 0x80
    save_callers
    mrs     x0, esr_el2
    mov     w1, #0x5e000000
    cmp     x0, x1
    b.eq    guest_calls_by_smc
    mov     w1, #0x5a000000
    cmp     x0, x1
    b.eq    guest_calls_by_hvc
    b       guest_does_something_else
.endm

.macro from_el2 kind
    .balign 0x80
    mov     x0, #\kind
    b       broken
.endm

.text
.balign 0x800
.global vectors
vectors:
    from_el2 0
    from_el2 1
    from_el2 2
    from_el2 3
    from_el2 4
    from_el2 5
    from_el2 6
    from_el2 7
    from_guest_by_itself
    from_guest guest_irq
    from_guest guest_irq
    from_guest guest_serror
    // From EL0 in AArch32 state: the register file is the same one.
    from_guest guest_sync
    from_guest guest_irq
    from_guest guest_irq
    from_guest guest_serror

guest_calls_by_smc:
    // A trapped SMC's return address is its own.
    mrs     x1, elr_el2
    add     x1, x1, #4
    msr     elr_el2, x1
    mrs     x2, spsr_el2
    tbnz    x2, #21, guest_steps_over_smc
go_on_with_smc:
    mov     x0, sp
    bl      guest_smc
    tbz     w0, #0, return_from_call
    b       after_call

// The guest's debugger steps over it (PSTATE.SS): the step is done. Of an HVC the hardware says so itself.
guest_steps_over_smc:
    bic     x2, x2, #(1 << 21)
    msr     spsr_el2, x2
    b       go_on_with_smc

guest_calls_by_hvc:
    mov     x0, sp
    bl      guest_hvc
    tbz     w0, #0, return_from_call

// There is more to do than the call: perhaps another vCPU's turn.
after_call:
    save_others
    mov     x0, sp
    bl      guest_call_end
    b       return_to_guest

guest_does_something_else:
    save_others
    mov     x0, sp
    bl      guest_sync
    b       return_to_guest

// An exception taken from EL2 is a bug in EL2. The stack may be the reason: use the spare one.
broken:
    mrs     x1, esr_el2
    mrs     x2, elr_el2
    mrs     x3, far_el2
    adrp    x4, {spare_stack_top}
    add     x4, x4, :lo12:{spare_stack_top}
    ldr     x4, [x4]
    mov     x5, sp
    mov     sp, x4
    mov     x4, x5
    b       {el2_exception}

return_to_guest:
    ldp     x1, x2, [sp, #248]
    msr     elr_el2, x1
    msr     spsr_el2, x2
    ldp     x28, x29, [sp, #224]
    ldp     x26, x27, [sp, #208]
    ldp     x24, x25, [sp, #192]
    ldp     x22, x23, [sp, #176]
    ldp     x20, x21, [sp, #160]
    ldr     x19, [sp, #152]
return_from_call:
    ldr     x30, [sp, #240]
    ldr     x18, [sp, #144]
    ldp     x16, x17, [sp, #128]
    ldp     x14, x15, [sp, #112]
    ldp     x12, x13, [sp, #96]
    ldp     x10, x11, [sp, #80]
    ldp     x8, x9, [sp, #64]
    ldp     x6, x7, [sp, #48]
    ldp     x4, x5, [sp, #32]
    ldp     x2, x3, [sp, #16]
    ldp     x0, x1, [sp, #0]
    add     sp, sp, #272
    eret
    // Nothing after an eret is to be speculated into.
    dsb     nsh
    isb

// The first time on a pCPU: x0 = its stack's top. Makes room for a frame, lets the scheduler fill
// it, and enters the guest. Never returns.
.global enter_first_guest
enter_first_guest:
    mov     sp, x0
    sub     sp, sp, #272
    mov     x0, sp
    mov     x29, #0
    mov     x30, #0
    bl      first_guest
    b       return_to_guest
