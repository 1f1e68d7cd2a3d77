// SPDX-License-Identifier: Apache-2.0 OR MIT
// The first instructions: Linux boot protocol (Documentation/arch/arm64/booting in Linux), MMU
// and data cache off, x0 = the device tree. Until stage 1 is on, memory is Device-like: no
// exclusives, no unaligned access, so the work here is what must be done before Rust's atomics.

.section .head, "ax"
.global _head
_head:
    ccmp    x18, #0, #0xd, pl           // its first bytes are "MZ", and it changes the flags alone
    b       _start
    .quad   0                           // text_offset: anywhere 2 MiB aligned will do
    .quad   _image_size
    .quad   0xa                         // little endian, 4 KiB pages, placed anywhere
    .quad   0
    .quad   0
    .quad   0
    .ascii  "ARM\x64"
    .long   pe_header - _head

// The same file for EFI firmware (Microsoft's PE Format; UEFI 2.10, 2.1.1). There are no base relocations, because
// the image applies its own. What those write to is in the second section, as is everything else but the code.
pe_header:
    .ascii  "PE\0\0"
    .short  0xaa64                      // ARM64
    .short  2                           // sections
    .long   0
    .long   0
    .long   0
    .short  pe_sections - pe_optional
    .short  0x206                       // executable; no line numbers, no debug data
pe_optional:
    .short  0x20b                       // PE32+
    .short  0
    .long   _text_bytes
    .long   _data_file_bytes
    .long   0
    .long   _efi_entry_offset
    .long   _text_offset
    .quad   0                           // image base: any
    .long   0x2000                      // alignment in memory: that of .bss, as image.ld checks
    .long   0x200                       // alignment in the file
    .long   0                           // version of the system
    .short  1                           // version of the image: as of 1.0, boot loaders may offer the initial
    .short  0                           // RAM disk by LoadFile2
    .long   0                           // version of the subsystem
    .long   0
    .long   _image_size
    .long   _text_offset                // size of the headers
    .long   0
    .short  10                          // an EFI application
    .short  0x100                       // no page needs to be writable and executable
    .quad   0                           // stack and heap: EFI takes no account of them
    .quad   0
    .quad   0
    .quad   0
    .long   0
    .long   6                           // data directories, all empty
    .fill   6, 8, 0
pe_sections:
    .ascii  ".text\0\0\0"
    .long   _text_bytes
    .long   _text_offset
    .long   _text_bytes
    .long   _text_offset                // in the file
    .quad   0
    .long   0
    .long   0x60000020                  // code, to read and execute
    .ascii  ".data\0\0\0"
    .long   _data_bytes
    .long   _data_offset
    .long   _data_file_bytes
    .long   _data_offset
    .quad   0
    .long   0
    .long   0xc0000040                  // data, to read and write

.text
_start:
    msr     daifset, #0xf
    mov     x19, x0                     // the device tree
    adrp    x20, _image_start           // where we are; the image is linked at 0
    bl      relocate

relocated:
    adrp    x1, _bss_start
    adrp    x2, _image_end
4:  stp     xzr, xzr, [x1], #16
    cmp     x1, x2
    b.lo    4b

    // What we wrote went past the caches; drop any stale line before they are used.
    mov     x1, x20
    dmb     sy
5:  dc      ivac, x1
    add     x1, x1, #16                 // no line is shorter
    cmp     x1, x2
    b.lo    5b
    dsb     sy

    adrp    x1, {stack0_top}
    add     x1, x1, :lo12:{stack0_top}
    ldr     x1, [x1]
    mov     sp, x1
    // Does not return where EL2 cannot run. This runs with the MMU off, and so does all that it calls.
    mov     x0, x19
    mrs     x1, CurrentEL
    mrs     x2, S3_0_C0_C7_4            // ID_AA64MMFR4_EL1; zero on CPUs that are older than its name
    bl      boot_check

    adrp    x1, PERCPU_AREAS            // the boot pCPU's: percpu.rs
    add     x1, x1, :lo12:PERCPU_AREAS
    msr     tpidr_el2, x1
    bl      own_translation
    // A first stage-1 table: the gigabytes that hold this image are normal memory, all others
    // device and never executed. Rust replaces it once it has read the device tree.
    adrp    x0, {boot_table}
    add     x0, x0, :lo12:{boot_table}
    mov     x1, x20
    adrp    x2, _image_end
    bl      fill_boot_table
    adrp    x0, {boot_table}
    add     x0, x0, :lo12:{boot_table}
    bl      enable_mmu
    mov     x0, x19
    mov     x1, x20
    b       boot_primary

// Where EFI firmware enters: x0 = the image's handle, x1 = the system table; MMU and caches on, an identity map, the
// firmware's stack, .bss zero. Comes back, with an error's code, if Rust says so; else goes on as the Linux boot
// protocol does.
.global efi_entry
efi_entry:
    stp     x29, x30, [sp, #-48]!
    mov     x29, sp
    stp     x19, x20, [sp, #16]
    stp     x0, x1, [sp, #32]
    adrp    x20, _image_start
    bl      relocate
    ldp     x0, x1, [sp, #32]
    bl      {efi_enter}
    cbnz    x0, 1f
    mov     x0, x1
    ldp     x19, x20, [sp, #16]
    ldp     x29, x30, [sp], #48
    ret
1:  msr     daifset, #0xf
    mov     x19, x0
    // Rust has cleaned the image and the tree to memory. No memory is written from here to the end of the MMU, so
    // no dirty line of them is left.
    ldr     x1, =0x30c50830             // as in enable_mmu
    dsb     sy
    msr     sctlr_el2, x1
    isb
    ic      iallu
    dsb     sy
    isb
    b       relocated

// x20 = where the image is. Clobbers x1 to x6. To be called once.
relocate:
    // The relocations, all of them relative, in the packed form DT_RELR of the ELF gABI: an even word is
    // the address of a word to move, an odd one a bit for each of the 63 words behind the last.
    adrp    x1, _relr_start
    add     x1, x1, :lo12:_relr_start
    adrp    x2, _relr_end
    add     x2, x2, :lo12:_relr_end
1:  cmp     x1, x2
    b.hs    3f
    ldr     x3, [x1], #8
    tbnz    x3, #0, 2f
    add     x4, x20, x3                 // the word itself
    ldr     x5, [x4]
    add     x5, x5, x20
    str     x5, [x4], #8
    b       1b
2:  mov     x6, x4
    add     x4, x4, #(63 * 8)
21: lsr     x3, x3, #1
    cbz     x3, 1b
    tbz     x3, #0, 22f
    ldr     x5, [x6]
    add     x5, x5, x20
    str     x5, [x6]
22: add     x6, x6, #8
    b       21b
3:  ret

// x0 = table, x1 = first byte of the image, x2 = end of the image.
fill_boot_table:
    lsr     x1, x1, #30
    sub     x2, x2, #1
    lsr     x2, x2, #30
    mov     x3, #0                      // entry
    mov     x4, #0x401                  // block, AF, MAIR index 0: device
    movk    x4, #0x40, lsl #48          // XN
    mov     x5, #0x705                  // block, AF, inner shareable, MAIR index 1: normal
1:  lsl     x6, x3, #30
    cmp     x3, x1
    b.lo    2f
    cmp     x3, x2
    b.hi    2f
    orr     x6, x6, x5
    b       3f
2:  orr     x6, x6, x4
3:  str     x6, [x0, x3, lsl #3]
    add     x3, x3, #1
    cmp     x3, #512
    b.lo    1b
    dsb     sy
    ret

// HCR_EL2 as EL2 needs it for its own translation, whatever firmware left there: no VHE (E2H, on which the layout
// of TCR_EL2, CPTR_EL2 and CNTHCTL_EL2 hangs), no TGE, EL1 in AArch64 (RW). All of this before stage 1 is on.
// Clobbers x2.
own_translation:
    mov     x2, #(1 << 31)
    msr     hcr_el2, x2
    isb
    ret

// Turns stage 1 on with the root table in x0 (39-bit identity map: what runs goes on running).
// If it was on with another table it is off in between, so no break-before-make is needed.
// Touches no memory; clobbers x1, x2.
.global enable_mmu
enable_mmu:
    ldr     x1, =0x30c50830             // SCTLR_EL2: the RES1 bits, MMU and caches off
    dsb     sy
    msr     sctlr_el2, x1
    isb
    msr     ttbr0_el2, x0
    ldr     x1, =0x04ff00               // MAIR: 0 device-nGnRnE, 1 normal write-back, 2 device-nGnRE
    msr     mair_el2, x1
    mrs     x2, id_aa64mmfr0_el1
    and     x2, x2, #7                  // PARange
    ldr     x1, =0x80803519             // TCR_EL2: RES1, inner shareable, write-back walks, T0SZ 25
    orr     x1, x1, x2, lsl #16
    msr     tcr_el2, x1
    tlbi    alle2
    ic      iallu
    dsb     sy
    isb
    ldr     x1, =0x30c5183d             // M, C, SA, I
    msr     sctlr_el2, x1
    isb
    ret

// Where PSCI CPU_ON starts a pCPU: x0 = its `SecondaryStart` (stack top, root table, index), read
// with the MMU off, so the starter cleaned it to memory.
.global secondary_entry
secondary_entry:
    msr     daifset, #0xf
    mov     x19, x0
    bl      own_translation
    ldp     x1, x0, [x19]
    mov     sp, x1
    ldr     x1, [x19, #16]
    adrp    x2, PERCPU_AREAS
    add     x2, x2, :lo12:PERCPU_AREAS
    add     x1, x2, x1, lsl #7          // an area has 128 bytes
    msr     tpidr_el2, x1
    bl      enable_mmu
    b       boot_secondary
