// SPDX-License-Identifier: Apache-2.0 OR MIT
// The first instructions: Linux boot protocol (Documentation/arch/arm64/booting in Linux), MMU and
// data cache off, x0 = the device tree, at EL1 (a guest) or EL2 (the bare machine).

.section .head, "ax"
.global _head
_head:
    b       _start
    .long   0
    .quad   0                           // text_offset: anywhere 2 MiB aligned will do
    .quad   _image_size
    .quad   0xa                         // little endian, 4 KiB pages, placed anywhere
    .quad   0
    .quad   0
    .quad   0
    .ascii  "ARM\x64"
    .long   0

_start:
    msr     daifset, #0xf
    mov     x19, x0                     // the device tree
    adrp    x20, _image_start           // where we are; the image is linked at 0

    // R_AARCH64_RELATIVE relocations: *(base + offset) = base + addend.
    adrp    x1, _rela_start
    add     x1, x1, :lo12:_rela_start
    adrp    x2, _rela_end
    add     x2, x2, :lo12:_rela_end
1:  cmp     x1, x2
    b.hs    2f
    ldp     x3, x4, [x1], #16
    ldr     x5, [x1], #8
    cmp     w4, #1027
    b.ne    1b
    add     x5, x5, x20
    str     x5, [x20, x3]
    b       1b

2:  adrp    x1, _bss_start
    add     x1, x1, :lo12:_bss_start
    adrp    x2, _image_end
3:  str     xzr, [x1], #8
    cmp     x1, x2
    b.lo    3b

    // What we wrote went past the caches; drop any stale line before they are used.
    mov     x1, x20
    dmb     sy
4:  dc      ivac, x1
    add     x1, x1, #16                 // no line is shorter
    cmp     x1, x2
    b.lo    4b
    dsb     sy

    adrp    x0, {table}
    add     x0, x0, :lo12:{table}
    mov     x1, x20
    adrp    x2, _image_end
    bl      fill_table
    adrp    x0, {table}
    add     x0, x0, :lo12:{table}
    bl      enable_mmu
    adrp    x1, {stacks}
    add     x1, x1, :lo12:{stacks}
    add     x1, x1, #{stack_size}
    mov     sp, x1
    adrp    x2, _image_end
    mov     x0, x19
    mov     x1, x20
    b       {primary}

// x0 = table, x1 = first byte of the image, x2 = end of the image: the gigabytes that hold the image
// are normal memory, all others device and never executed. `mmu` adds the rest of RAM.
fill_table:
    lsr     x1, x1, #30
    sub     x2, x2, #1
    lsr     x2, x2, #30
    mov     x3, #0                      // entry
    mov     x4, #0x401                  // block, AF, MAIR index 0: device
    movk    x4, #0x60, lsl #48          // UXN (EL2: XN), PXN
    mov     x5, #0x705                  // block, AF, inner shareable, MAIR index 1: normal
5:  lsl     x6, x3, #30
    cmp     x3, x1
    b.lo    6f
    cmp     x3, x2
    b.hi    6f
    orr     x6, x6, x5
    b       7f
6:  orr     x6, x6, x4
7:  str     x6, [x0, x3, lsl #3]
    add     x3, x3, #1
    cmp     x3, #512
    b.lo    5b
    dsb     sy
    ret

// Turns stage 1 on with the root table in x0 (39-bit identity map), and sets what else a vCPU needs
// before Rust. Touches no memory; clobbers x1, x2.
enable_mmu:
    ldr     x1, =0x4404ff00             // MAIR: device-nGnRnE, write-back, device-nGnRE, non-cacheable
    mrs     x2, CurrentEL
    cmp     x2, #(2 << 2)
    b.eq    8f

    msr     mair_el1, x1
    msr     ttbr0_el1, x0
    mrs     x2, id_aa64mmfr0_el1
    and     x2, x2, #7                  // PARange
    ldr     x1, =0x803519               // TCR_EL1: EPD1, inner shareable, write-back walks, T0SZ 25
    orr     x1, x1, x2, lsl #32
    msr     tcr_el1, x1
    adrp    x1, vectors
    add     x1, x1, :lo12:vectors
    msr     vbar_el1, x1
    tlbi    vmalle1
    ic      iallu
    dsb     sy
    isb
    ldr     x1, =0x30d0180d             // SCTLR_EL1: the RES1 bits, M, C, SA, I
    msr     sctlr_el1, x1
    isb
    ret

8:  msr     mair_el2, x1
    msr     ttbr0_el2, x0
    mrs     x2, id_aa64mmfr0_el1
    and     x2, x2, #7
    ldr     x1, =0x80803519             // TCR_EL2: the same, with its RES1 bits
    orr     x1, x1, x2, lsl #16
    msr     tcr_el2, x1
    adrp    x1, vectors
    add     x1, x1, :lo12:vectors
    msr     vbar_el2, x1
    mov     x1, #(1 << 4)               // HCR_EL2: IMO, so that interrupts are EL2's
    orr     x1, x1, #(1 << 31)          // RW
    msr     hcr_el2, x1
    tlbi    alle2
    ic      iallu
    dsb     sy
    isb
    ldr     x1, =0x30c5183d             // SCTLR_EL2: the RES1 bits, M, C, SA, I
    msr     sctlr_el2, x1
    isb
    ret

// Where PSCI CPU_ON starts another vCPU: x0 = its `Start` (root table, stack top), read with the MMU
// off, so the starter cleaned it to memory.
.text
.global secondary_entry
secondary_entry:
    msr     daifset, #0xf
    mov     x19, x0
    ldp     x0, x20, [x19]
    bl      enable_mmu
    mov     sp, x20
    mov     x0, x19
    b       {secondary}
