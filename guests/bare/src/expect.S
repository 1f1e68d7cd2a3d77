// SPDX-License-Identifier: Apache-2.0 OR MIT
// Code that takes exceptions on purpose.

// x0 = address of the code, x1 = its x0, x2 = the PSTATE in which it runs. The code may change what a call may, and
// comes back by x30, or from EL0 by an exception that goes on at `code_back`.
.text
.balign 64
.global code_run
code_run:
    stp     x29, x30, [sp, #-112]!
    stp     x19, x20, [sp, #16]
    stp     x21, x22, [sp, #32]
    stp     x23, x24, [sp, #48]
    stp     x25, x26, [sp, #64]
    stp     x27, x28, [sp, #80]
    msr     elr_el1, x0
    msr     spsr_el1, x2
    mov     x0, x1
    adr     x30, code_back
    isb
    eret

.global code_back
code_back:
    msr     daifset, #0xf
    ldp     x19, x20, [sp, #16]
    ldp     x21, x22, [sp, #32]
    ldp     x23, x24, [sp, #48]
    ldp     x25, x26, [sp, #64]
    ldp     x27, x28, [sp, #80]
    ldp     x29, x30, [sp], #112
    ret

.global code_nops
code_nops:
    nop
    nop
    nop
    ret

.global code_smc
code_smc:
    smc     #0
    nop
    ret

.global code_hvc
code_hvc:
    hvc     #0
    nop
    ret

.global code_counter
code_counter:
    mrs     x0, cntpct_el0
    nop
    ret

.global code_debug_register
code_debug_register:
    mrs     x0, oslsr_el1
    nop
    ret

.global code_gic_register
code_gic_register:
    mrs     x0, icc_ctlr_el1
    nop
    ret

.global code_load
code_load:
    ldr     w0, [x0]
    nop
    ret

.global code_store
code_store:
    str     wzr, [x0]
    nop
    ret

.global code_brk
code_brk:
    brk     #0x123
    ret

.global code_svc
code_svc:
    svc     #0x234
    ret

.global code_undefined
code_undefined:
    udf     #0
    ret

.global code_jump
code_jump:
    br      x0

.global code_el0_svc
code_el0_svc:
    svc     #0x345

.global code_el0_nop
code_el0_nop:
    nop
    svc     #0x345

.global code_el0_undefined
code_el0_undefined:
    udf     #0

.global code_el0_load
code_el0_load:
    ldr     w0, [x0]
    svc     #0x345

.global code_el0_counter
code_el0_counter:
    mrs     x0, cntpct_el0
    svc     #0x345

.global code_el0_mrs
code_el0_mrs:
    mrs     x0, sctlr_el1
    svc     #0x345
