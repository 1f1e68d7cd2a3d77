// SPDX-License-Identifier: Apache-2.0 OR MIT
/// The facts about OP-TEE as SPMC, in the order of the probe's list.
const FFA_FACTS: &[Fact] = &[
    Fact {
        name: "ffa-versions",
        question: "Versions and ids?",
        did: Did::Saw("VERSION of 1.0, 1.1, 1.3, 2.0, bit 31, 1.2: 0x10002 0x10002 0x10002 0x10002 0xffffffff 0x10002; ID_GET: 0x0; SPM_ID_GET: 0x8000"),
    },
    Fact {
        name: "ffa-features",
        question: "What does FEATURES say?",
        did: Did::Saw("FFA_ERROR FFA_SUCCESS FFA_SUCCESS_64 FFA_INTERRUPT FFA_VERSION FFA_FEATURES FFA_RX_RELEASE FFA_RXTX_MAP FFA_RXTX_MAP_64 FFA_RXTX_UNMAP FFA_PARTITION_INFO_GET FFA_MSG_SEND_DIRECT_REQ FFA_MSG_SEND_DIRECT_REQ_64 FFA_MEM_SHARE=0x1/0x0 FFA_MEM_SHARE_64=0x1/0x0 FFA_MEM_RECLAIM FFA_MEM_FRAG_TX FFA_NOTIFICATION_BITMAP_CREATE FFA_NOTIFICATION_BITMAP_DESTROY FFA_NOTIFICATION_BIND FFA_NOTIFICATION_UNBIND FFA_NOTIFICATION_SET FFA_NOTIFICATION_GET FFA_NOTIFICATION_INFO_GET FFA_NOTIFICATION_INFO_GET_64 FFA_SPM_ID_GET; features 1 to 3: NOT_SUPPORTED 0x8 0x0; others: NOT_SUPPORTED"),
    },
    Fact {
        name: "ffa-unknown-ids",
        question: "Functions that are not OP-TEE's?",
        did: Did::Saw("unknown to SMCCC: 226 of 282; neither so nor NOT_SUPPORTED: 0x8400007c DENIED; RUN of OP-TEE: INVALID_PARAMETERS, of the SPMC: INVALID_PARAMETERS; VM 1 works: true"),
    },
    Fact {
        name: "ffa-partition",
        question: "PARTITION_INFO_GET and RX_RELEASE?",
        did: Did::Saw("count: 0x1; all: 0x1, entries of 24 bytes: id 0x8001, 4 contexts, properties 0x1c3, uuid e0786148 e311f8e7 02005ebc 1bc5d5a5; again: BUSY; RX_RELEASE twice: SUCCESS DENIED; by UUID: 0x1; again: BUSY, RX_RELEASE: SUCCESS; of an unknown UUID: SUCCESS, RX_RELEASE: SUCCESS"),
    },
    Fact {
        name: "ffa-services",
        question: "Blocking services, from whom, to whom?",
        did: Did::Saw("API version: 0x1 0x0 0x0 0x0 0x0, OS version: 0x4 0xa 0x90be0616 0x0 0x0, capabilities: 0x0 0x4 0x7 0x0 0x0, capabilities of all bits: 0x0 0x4 0x7 0x0 0x0, 4: 0xffff0006 0x0 0x0 0x0 0x0, 6: 0xffff0006 0x0 0x0 0x0 0x0, 7: 0xffff0006 0x0 0x0 0x0 0x0, RELEASE_PROTMEM: 0xffff0006 0x0 0x0 0x0 0x0, 99: 0xffff0006 0x0 0x0 0x0 0x0, 0x80000002: 0xfffffffa 0x0 0x0 0x0 0x0, ENABLE of 63: 0x0 0x0 0x0 0x0 0x0, of 64: 0xffff0006 0x0 0x0 0x0 0x0; API version as 0: 0xffff0008 0x0 0x0 0x0 0x0, as VM 9: 0xffff0008 0x0 0x0 0x0 0x0, as 0x8001: INVALID_PARAMETERS, to 0x8000: INVALID_PARAMETERS, to 0x8002: INVALID_PARAMETERS, to VM 2: INVALID_PARAMETERS, w2 = 1: 0x1 0x0 0x0 0x0 0x0, w2 = 0x7fffffff: 0x1 0x0 0x0 0x0 0x0; VM 1 works: true"),
    },
    Fact {
        name: "ffa-framework",
        question: "Framework messages from a VM (B9)?",
        did: Did::Saw("VM 1 and 2 work: true true; VM 1 destroys VM 2: OK, VM 2 works: false; VM 1 creates VM 9: OK, then VM_CREATED of VM 2: DENIED; VM 1 works: true"),
    },
    Fact {
        name: "ffa-version-for-all",
        question: "A VM that asks for another version (B9)?",
        did: Did::Saw("VM 1 asks for 1.0: 0x10002 0x0 0x0 0x0 0x0; then VM 2's share: INVALID_PARAMETERS; after VERSION 1.2: SUCCESS; both work: true true"),
    },
    Fact {
        name: "ffa-rxtx",
        question: "What does RXTX_MAP take?",
        did: Did::Saw("PARTITION_INFO_GET before: BUSY, RX_RELEASE before: DENIED, UNMAP before: INVALID_PARAMETERS; 0 pages: INVALID_PARAMETERS, 1: SUCCESS, 16: SUCCESS, 32: SUCCESS, bits 6 and up: INVALID_PARAMETERS, unaligned by 8: SUCCESS, the same page twice: SUCCESS, secure RAM: SUCCESS, the UART: SUCCESS, nowhere: SUCCESS; mapped: SUCCESS, twice: DENIED, UNMAP of VM 5: SUCCESS, again: INVALID_PARAMETERS"),
    },
    Fact {
        name: "ffa-rxtx-again",
        question: "RXTX_MAP again, after VM_CREATED?",
        did: Did::Saw("VM 1 works: true; UNMAP: SUCCESS; the same pages again: SUCCESS; then VM 1's share: SUCCESS, VM 1 works: true"),
    },
    Fact {
        name: "ffa-handles",
        question: "Which handles are there, and when are they used again?",
        did: Did::Saw("VM 1: 0x100000010000 0x100000010001, VM 2: 0x100000020000; RECLAIM of the first: SUCCESS, the next: 0x100000010000; RECLAIM with flags 1: INVALID_PARAMETERS, twice: SUCCESS"),
    },
    Fact {
        name: "ffa-limit",
        question: "How many objects has a VM?",
        did: Did::Saw("63 more objects, the last 0x10000001003f; reclaimed: 63; VM 1 and 2 work: true true"),
    },
    Fact {
        name: "ffa-descriptor",
        question: "Wrong fields in a descriptor?",
        did: Did::Saw("as it is: SUCCESS, short access: SUCCESS, access size 17: SUCCESS, access size 48: SUCCESS, two receivers said: SUCCESS, none: INVALID_PARAMETERS, access offset 0: INVALID_PARAMETERS, 0xfff0: INVALID_PARAMETERS, list offset 0xfff0: INVALID_PARAMETERS, receiver 0x8002: INVALID_PARAMETERS, receiver 0x8000: INVALID_PARAMETERS, receiver flags 1: SUCCESS, read only: INVALID_PARAMETERS, executable: INVALID_PARAMETERS, device: INVALID_PARAMETERS, non-cacheable: INVALID_PARAMETERS, non-secure bit: INVALID_PARAMETERS, flags 1: SUCCESS, tag 7: SUCCESS, handle 5: NO_MEMORY, sender VM 0: SUCCESS with 0x0 (RECLAIM: INVALID_PARAMETERS), sender VM 9: SUCCESS with 0x0 (RECLAIM: INVALID_PARAMETERS); LEND: INVALID_PARAMETERS; DONATE: NOT_SUPPORTED; in the form of 1.0: INVALID_PARAMETERS; dynamic buffer: NO_MEMORY; VM 1 works: true"),
    },
    Fact {
        name: "ffa-ranges",
        question: "Wrong ranges in a descriptor?",
        did: Did::Saw("two ranges: SUCCESS, one page twice: SUCCESS, overlapping: SUCCESS, no page: INVALID_PARAMETERS, no range: INVALID_PARAMETERS, one of no page: SUCCESS, unaligned by 8: SUCCESS, by 1: SUCCESS, total too small: INVALID_PARAMETERS, too large: INVALID_PARAMETERS, more ranges said: INVALID_PARAMETERS, 2^32 - 1 said: INVALID_PARAMETERS, pages that wrap: INVALID_PARAMETERS, an address that wraps: INVALID_PARAMETERS, this program: SUCCESS, OP-TEE's static memory: SUCCESS, secure RAM: INVALID_PARAMETERS, the UART: INVALID_PARAMETERS, behind RAM: INVALID_PARAMETERS; a page in both VMs: SUCCESS SUCCESS; VM 1 works: true"),
    },
    Fact {
        name: "ffa-fragments",
        question: "Descriptors in fragments (B13)?",
        did: Did::Saw("all but a range: INVALID_PARAMETERS, header alone: INVALID_PARAMETERS, header and access: INVALID_PARAMETERS, nothing: INVALID_PARAMETERS; fragment longer than all: INVALID_PARAMETERS; FRAG_TX of nothing: INVALID_PARAMETERS; VM 1 works: true"),
    },
    Fact {
        name: "ffa-large",
        question: "Large objects?",
        did: Did::Saw("250 ranges: SUCCESS; 2048: SUCCESS; 16 MiB: SUCCESS, 64 MiB: SUCCESS, 128 MiB: NO_MEMORY, 256 MiB: NO_MEMORY; VM 1 and 2 work: true true"),
    },
    Fact {
        name: "ffa-foreign-handle",
        question: "Handles of others (B10)?",
        did: Did::Saw("a handle of the hypervisor's: 0x8000000000000077, again: NO_MEMORY, RECLAIM: SUCCESS; VM 2 calls with VM 1's: w3 = 0xffff0006, unregisters it: OK, VM 1 works: true; VM 2 reclaims VM 1's: SUCCESS; an unknown one: INVALID_PARAMETERS; a new client of VM 1 works: true"),
    },
    Fact {
        name: "ffa-use",
        question: "RECLAIM and UNREGISTER_SHM of an object in use?",
        did: Did::Saw("RECLAIM of what was never used: SUCCESS; while a call uses it: RECLAIM DENIED, UNREGISTER BUSY; the call: result 0xffff0008; then RECLAIM: DENIED; UNREGISTER: OK, twice: OK; RECLAIM: SUCCESS, twice: INVALID_PARAMETERS; UNREGISTER of 0, an unknown handle, the reclaimed one: OK OK OK; VM 1 works: true"),
    },
    Fact {
        name: "ffa-destroyed",
        question: "Objects of a VM that is destroyed (B8)?",
        did: Did::Saw("VM 1 worked: true; VM_DESTROYED with a suspended call: OK; a call: w3 = 0xffff0008; a share: SUCCESS with handle 0x0; RECLAIM never used: SUCCESS, still registered: SUCCESS, in a suspended call: SUCCESS, twice: INVALID_PARAMETERS; VM_CREATED: OK, works: true"),
    },
    Fact {
        name: "ffa-stale",
        question: "A handle of an earlier life (B11)?",
        did: Did::Saw("the handle of the next life is the same: true; RECLAIM of the old one: SUCCESS, twice: INVALID_PARAMETERS; a new object in a call: success"),
    },
    Fact {
        name: "ffa-offsets",
        question: "Where in its object may a message be?",
        did: Did::Saw("a message at 0: result 0xffff0008, 8: result 0xffff0008, 16: result 0xffff0008, 4096: result 0xffff0008, 4096 + 64: result 0xffff0008, across the pages: result 0xffff0008; at 1: result 0xff000600, 4: result 0xff000600, the end: w3 = 0xffff0006, behind it: w3 = 0xffff0006, 2^32 - 4096: w3 = 0xffff0006, 2^32 - 1: w3 = 0xffff0006; VM 1 works: true"),
    },
    Fact {
        name: "ffa-rpc-room",
        question: "How much room is there for RPC messages?",
        did: Did::Saw("OPEN_SESSION 256 bytes before the end: result 0xffff0008, 248: w3 = 0xffff0006, 96: w3 = 0xffff0006, room across the pages: result 0xffff0008, message across the pages: result 0xffff0008; parameters of a message at 0: 122: result 0xffff0006, 123: w3 = 0xffff0006, 127: w3 = 0xffff0006, 128: w3 = 0xffff0006, 2^27: w3 = 0xffff0006, 2^32 - 1: w3 = 0xffff0006; VM 1 works: true"),
    },
    Fact {
        name: "ffa-internal-offset",
        question: "internal_offs at the first use, and later?",
        did: Did::Saw("64 first: success, 0x40 = 8, then 0: success, 0x0 = 8, then 64 and offset 16: success, 0x50 = 8, to the end: success, 0x40 = 192, one more: result 0xffff000f; RECLAIM: SUCCESS; 0 first: success, 0x0 = 8, then 64: success, 0x40 = 8; after UNREGISTER (OK) 64: success, 0x40 = 8; 4095, 4096, 0xffff first: success, 0xfff = 8, result 0xffff0006, result 0xffff0006; VM 1 works: true"),
    },
    Fact {
        name: "ffa-null",
        question: "The handle of all ones, and zero?",
        did: Did::Saw("size 0: success, size 8: result 0xffff0006, offset 8: success, internal offset 8: success, size 8 for a buffer: result 0xffff0006, handle 0, size 0: result 0xffff0006, handle 0, size 8: result 0xffff0006; VM 1 works: true"),
    },
    Fact {
        name: "ffa-memrefs",
        question: "References to parts of objects?",
        did: Did::Saw("in the second page: success, 0x1010 = 8, across: success, 0xffc = 8, to the end: success, 0x1000 = 0; one byte more: result 0xffff000f, at the end: result 0xffff000f, offset 2^32: result 0xffff000f, 2^48 - 8: result 0xffff000f, size 2^64 - 8: result 0xffff000f; the message's own page: success, an unknown handle: result 0xffff0006, VM 2's: result 0xffff0006, by address: result 0xffff0006; REGISTER_SHM, UNREGISTER_SHM: w3 = 0xffff0009 w3 = 0xffff0009; VM 1 works: true"),
    },
    Fact {
        name: "ffa-attributes",
        question: "Types of parameters with other bits?",
        did: Did::Saw("none: success, UNREGISTER OK, RECLAIM SUCCESS, META: result 0xffff0006, UNREGISTER OK, RECLAIM SUCCESS, NONCONTIG: success, UNREGISTER BUSY, RECLAIM DENIED, bit 10: success, UNREGISTER BUSY, RECLAIM DENIED, bit 32: success, UNREGISTER BUSY, RECLAIM DENIED, bit 63: success, UNREGISTER BUSY, RECLAIM DENIED; VM 1 works: true"),
    },
    Fact {
        name: "ffa-alloc",
        question: "Answers to SHM_ALLOC?",
        did: Did::Saw("too small: result 0xffff000c, RPCs after it: 7, size 1: result 0xffff000c, RPCs after it: 7, VM 2's: result 0xffff000c, RPCs after it: 7, unknown: result 0xffff000c, RPCs after it: 7, all ones: result 0xffff000c, RPCs after it: 7, the message's page: result 0xffff000c, RPCs after it: 7, a value: result 0xffff000c, RPCs after it: 7, OUT_OF_MEMORY: result 0xffff000c, RPCs after it: 7; honestly: success; RECLAIM of the small page: SUCCESS; VM 1 and 2 work: true true"),
    },
    Fact {
        name: "ffa-resume",
        question: "RESUME of others' calls?",
        did: Did::Saw("call 0; RESUME by another VM: w3 = 0xffff0006, the next number: w3 = 0xffff0006, 2^32 - 1: w3 = 0xffff0006, 2^16 + the number: w3 = 0xffff0006; the call's end: result 0xffff0008, RESUME after it: w3 = 0xffff0006, another message: result 0xffff0008; VM 1 and 2 work: true true"),
    },
    Fact {
        name: "ffa-vms",
        question: "VM_CREATED and VM_DESTROYED?",
        did: Did::Saw("VM_CREATED of 0: INVALID_PARAMETERS, 1: OK, 0x7fff: OK, a third: DENIED; VM_DESTROYED of 5, 0, 0xffff: OK OK OK; of 0x7fff: OK, then 3 by the SPMC's id: OK; 3 gone, then 0x8005: OK, OK; message type 2: NOT_SUPPORTED; VM 1 works: true"),
    },
    Fact {
        name: "ffa-vm-twice",
        question: "VM_CREATED of a number in use (B15)?",
        did: Did::Saw("a session before: success; VM_CREATED again: OK, the session: w3 = 0xffff0006; after one VM_DESTROYED (OK): success"),
    },
    Fact {
        name: "ffa-threads",
        question: "More calls than threads?",
        did: Did::Saw("call 0, call 1, w3 = 0xffff000d; VM 1 meanwhile: w3 = 0xffff000d; VM 2 works: true"),
    },
    Fact {
        name: "ffa-notify",
        question: "Notifications of one VM?",
        did: Did::Saw("SRI 0x8; before: GET: 0x0 0x0, INFO_GET: NO_DATA, BIND: 0x0 0x0, of VM 9: INVALID_PARAMETERS; BITMAP_CREATE of VM 1, again, of VM 2 with 64 vCPUs: SUCCESS DENIED SUCCESS; ENABLE of an unbound bit: OK; BIND bit 0, again, all: DENIED DENIED DENIED; ENABLE of 0, again, of 64: OK OK w3 = 0xffff0006; SGI 8 comes: true; INFO_GET twice: 0x80 0x1, 0x80 0x1; GET of VM 2: 0x0 0x0; of VM 1, twice: 0x1 0x0, 0x0 0x0; INFO_GET: NO_DATA; DO_BOTTOM_HALF: no result; SGI 8 again: true; BITMAP_DESTROY: DENIED; GET of VM 9: INVALID_PARAMETERS, vCPU 5: 0x1 0x0, flags 0: 0x0 0x0, of VM 1: 0x0 0x0; BITMAP_DESTROY: DENIED; UNBIND twice, BITMAP_DESTROY twice: SUCCESS SUCCESS SUCCESS SUCCESS; VM 1 and 2 work: true true"),
    },
    Fact {
        name: "ffa-notify-lives",
        question: "Notifications in later lives (B6)?",
        did: Did::Saw("BIND SUCCESS, ENABLE OK, SGI 8: true; BIND SUCCESS, ENABLE OK, SGI 8: true; BIND SUCCESS, ENABLE OK, SGI 8: true; BIND SUCCESS, ENABLE OK, SGI 8: true; VM 1 works: true"),
    },
    Fact {
        name: "ffa-unregister-ones",
        question: "UNREGISTER_SHM of all ones (B1)?",
        did: Did::Stops("assertion 'cookie != OPTEE_MSG_FMEM_INVALID_GLOBAL_ID' failed at core/arch/arm/mm/mobj_ffa.c"),
    },
    Fact {
        name: "ffa-object-65",
        question: "The 65th object (B2)?",
        did: Did::Stops("assertion 'bit_test(shm_bits, i)' failed at core/arch/arm/mm/mobj_ffa.c"),
    },
    Fact {
        name: "ffa-size-zero",
        question: "A reference of no bytes for `invoke_tests.pta`?",
        did: Did::Stops("Core data-abort at address 0x0 (translation fault)"),
    },
    Fact {
        name: "ffa-rxtx-secure",
        question: "An RX buffer in secure memory (B3)?",
        did: Did::Stops("Core data-abort at address"),
    },
    Fact {
        name: "ffa-rxtx-moved",
        question: "Other buffers after VM_CREATED?",
        did: Did::Saw("a share: SUCCESS; UNMAP: SUCCESS; other buffers: SUCCESS; a share: SUCCESS"),
    },
    Fact {
        name: "ffa-rxtx-late",
        question: "RXTX_MAP after VM_CREATED (B4)?",
        did: Did::Stops("Core data-abort at address"),
    },
    Fact {
        name: "ffa-bitmap-late",
        question: "BITMAP_CREATE after ENABLE_ASYNC_NOTIF (B5)?",
        did: Did::Stops("nvb->do_bottom_half_value >= 0"),
    },
    Fact {
        name: "ffa-info-race",
        question: "NOTIFICATION_INFO_GET while a VM is destroyed (B7)?",
        did: Did::Stops("Core data-abort at address"),
    },
    Fact {
        name: "ffa-few-lives",
        question: "25 lives of a VM?",
        did: Did::Saw("25 lives; VM 2 works: true"),
    },
    Fact {
        name: "ffa-many-lives",
        question: "200 lives of a VM (B16)?",
        did: Did::Stops("Panic 'Can't divide MMU entry'"),
    },
];
