// SPDX-License-Identifier: Apache-2.0 OR MIT
/// The facts, in the order of the probe's list.
const FACTS: &[Fact] = &[
    Fact {
        name: "versions",
        question: "What is it?",
        did: Did::Saw(
            "OP-TEE 4.5, build 0x0, capabilities 0xfd, notification values up to 66, 4 RPC parameters, 2 threads, 14 calls",
        ),
    },
    Fact {
        name: "ptas",
        question: "Which pseudo applications can a guest open?",
        did: Did::Saw(
            "invoke_tests: success, stats: success, device: success, system: ACCESS_DENIED",
        ),
    },
    Fact {
        name: "unknown-vm",
        question: "Calls for a VM that was never created?",
        did: Did::Saw("fast: ENOTAVAIL; yielding: ENOTAVAIL; a VM that exists works: true"),
    },
    Fact {
        name: "client-zero",
        question: "Yielding calls with a7 = 0, and VM_CREATED with another a7?",
        did: Did::Saw(
            "yielding: ENOTAVAIL; VM_CREATED with a7 = 1: ENOTAVAIL; a VM that exists works: true",
        ),
    },
    Fact {
        name: "alias",
        question: "Do only 16 bits of a7 count?",
        did: Did::Saw("VM 1 OK; a7 = 0x10001 works: true; a7 = 0xabcd000000000001 works: true"),
    },
    Fact {
        name: "shm-cache-disable-zero",
        question: "DISABLE_SHM_CACHE with a7 = 0?",
        did: Did::Saw("ENOTAVAIL; VM 1 works: true"),
    },
    Fact {
        name: "shm-cache-enable-zero",
        question: "ENABLE_SHM_CACHE with a7 = 0?",
        did: Did::Saw("OK; VM 1 works: true"),
    },
    Fact {
        name: "notif-enable-zero",
        question: "ENABLE_ASYNC_NOTIF with a7 = 0?",
        did: Did::Stops("assertion 'prtn' failed at core/kernel/notif.c"),
    },
    Fact {
        name: "notif-value-zero",
        question: "GET_ASYNC_NOTIF_VALUE with a7 = 0?",
        did: Did::Saw("OK, a1 = 0, a2 = 0; VM 1 works: true"),
    },
    Fact {
        name: "notif-life",
        question: "Notifications of one VM, from ENABLE to the end of the VM?",
        did: Did::Saw(
            "DO_BOTTOM_HALF before: OK, no result; ENABLE: OK, once more: OK; a value comes: Some(0); VM 2's: a2 = 0; DO_BOTTOM_HALF: OK, no result; another comes: Some(0); STOP: OK, no result, then Some(0); ENABLE again: OK, Some(0); VM_DESTROYED with it enabled: OK; VM 2 works two seconds later: true",
        ),
    },
    Fact {
        name: "notif-race",
        question: "ENABLE_ASYNC_NOTIF while the VM is destroyed on another CPU?",
        did: Did::Stops("assertion 'prtn' failed at core/kernel/notif.c"),
    },
    Fact {
        name: "unknown-ids",
        question: "Undefined functions and commands?",
        did: Did::Saw(
            "fast 0xb2000012, 0xb20000ff, 0xf2000000, 0x82003d06: UNKNOWN_FUNCTION UNKNOWN_FUNCTION UNKNOWN_FUNCTION UNKNOWN_FUNCTION; yielding 0x32000014: EBADCMD; commands 8, 12, 0xffffffff: EBADCMD EBADCMD EBADCMD; the VM works before and after: true true",
        ),
    },
    Fact {
        name: "vm-zero",
        question: "VM_CREATED of number 0?",
        did: Did::Saw("ENOTAVAIL; VM 1 works: true"),
    },
    Fact {
        name: "vm-twice",
        question: "VM_CREATED of a number that is in use?",
        did: Did::Saw(
            "VM_CREATED twice: OK, OK; the first VM's session before: success, while there are two: BAD_PARAMETERS, after one VM_DESTROYED (OK): success",
        ),
    },
    Fact {
        name: "vm-third",
        question: "One VM more than OP-TEE was built for?",
        did: Did::Saw(
            "VM_CREATED of three: OK OK ENOTAVAIL; after VM_DESTROYED of one (OK): OK; both work: true true",
        ),
    },
    Fact {
        name: "vm-unknown-destroyed",
        question: "VM_DESTROYED of numbers that are not in use?",
        did: Did::Saw("5, 0, 0xffff: OK OK OK; VM 1 works: true"),
    },
    Fact {
        name: "vm-busy-destroyed",
        question: "VM_DESTROYED while another CPU runs a call of the VM?",
        did: Did::Saw(
            "VM_DESTROYED: OK, the other CPU still in OP-TEE: true; meanwhile fast calls of the VM: ENOTAVAIL, VM_CREATED of another: ENOTAVAIL; the call ends in time: true, with OK; then VM_CREATED: OK; VM 2 works: true",
        ),
    },
    Fact {
        name: "vm-first-calls",
        question: "The first two calls of a VM at once?",
        did: Did::Saw("both succeed: true; one of them waits by the RPC NOTIFICATION: true"),
    },
    Fact {
        name: "vm-threads",
        question: "More calls than threads?",
        did: Did::Saw(
            "suspended as thread 0, suspended as thread 1, ETHREAD_LIMIT; VM 2 works: true",
        ),
    },
    Fact {
        name: "vm-resume",
        question: "RETURN_FROM_RPC with the thread of another VM, or a wrong one?",
        did: Did::Saw(
            "another VM: ERESUME; a free thread, one too many, -1: ERESUME ERESUME ERESUME; 2^32 + the thread: resumes it",
        ),
    },
    Fact {
        name: "nexus-heap",
        question: "What does a VM take of the memory that all VMs share?",
        did: Did::Saw(
            "nexus heap of 22784 bytes: 2336 used with one VM, 3376 with two, 2336 with one again, 2336 after 100 more; a VM has 6430720 bytes for applications and a heap of 200576",
        ),
    },
    Fact {
        name: "asid-open",
        question: "70 VMs, each leaves a session with a user application open?",
        did: Did::Saw(
            "VM number 64: opening a session: result 0xffff0000; a PTA works: true; the next VM_CREATED: OK",
        ),
    },
    Fact {
        name: "asid-closed",
        question: "The same, and the session is closed?",
        did: Did::Saw("70 VMs, nothing fails"),
    },
    Fact {
        name: "asid-keep-alive",
        question: "The same with an application that stays after its last session?",
        did: Did::Saw(
            "VM number 64: opening or closing a session: result 0xffff0000; a PTA works: true; the next VM_CREATED: OK",
        ),
    },
    Fact {
        name: "asid-panicked",
        question: "The same with an application that panicked, its session left open?",
        did: Did::Saw("70 VMs, nothing fails"),
    },
    Fact {
        name: "asid-load",
        question: "The same with a session that is being opened, at LOAD_TA?",
        did: Did::Saw(
            "VM number 64: opening a session up to LOAD_TA: result 0xffff0000; a PTA works: true; the next VM_CREATED: OK",
        ),
    },
    Fact {
        name: "asid-pta",
        question: "The same with a pseudo application?",
        did: Did::Saw("70 VMs, nothing fails"),
    },
    Fact {
        name: "cookie-zero",
        question: "A memory reference with cookie 0 (W5)?",
        did: Did::Saw(
            "INVOKE with RMEM shm_ref = 0: success; the application wrote into the page of the call's own message: true; REGISTER_SHM with cookie 0: success",
        ),
    },
    Fact {
        name: "cookie-rpc",
        question: "The cookie of the page for RPC messages as a memory reference (W5)?",
        did: Did::Saw(
            "INVOKE with the RPC page's cookie: success; the application wrote there: true",
        ),
    },
    Fact {
        name: "cookie-twice",
        question: "One cookie for two buffers?",
        did: Did::Saw(
            "registering 1 page, then 2: success, success; reaching 2 pages: success; unregistering: success; reaching 2 pages: SECURITY, 1 page: success; unregistering: success, BAD_PARAMETERS",
        ),
    },
    Fact {
        name: "alloc-other-command",
        question: "Another command in the answer to SHM_ALLOC (W3)?",
        did: Did::Saw("accepted: LOAD_TA into RMEM with the reply's cookie: true"),
    },
    Fact {
        name: "alloc-contiguous",
        question: "One page by address as the answer to SHM_ALLOC (W4)?",
        did: Did::Saw("accepted: LOAD_TA into RMEM with the reply's cookie: true"),
    },
    Fact {
        name: "alloc-contiguous-two",
        question: "Two pages by address?",
        did: Did::Saw("refused: SHM_FREE of the reply's cookie: true"),
    },
    Fact {
        name: "alloc-nothing",
        question: "Address 0 with a cookie as the answer to FUNC_ALLOC?",
        did: Did::Saw(
            "each is followed by FUNC_FREE of the cookie: true; the call ends with 0xffff000c; the VM works: true",
        ),
    },
    Fact {
        name: "tmem-list-leak",
        question: "A page list as a parameter of INVOKE (4.6)?",
        did: Did::Saw(
            "INVOKE with TMEM|NONCONTIG: success; afterwards its cookie as RMEM: success; UNREGISTER_SHM: BAD_PARAMETERS; its cookie as RMEM: success",
        ),
    },
    Fact {
        name: "tmem-reserved",
        question: "Memory by address in INVOKE?",
        did: Did::Saw(
            "INVOKE with contiguous TMEM at 0x42000000: success, elsewhere in normal memory: BAD_PARAMETERS, in secure memory: BAD_PARAMETERS",
        ),
    },
    Fact {
        name: "register-anything",
        question: "Whose pages can be registered?",
        did: Did::Saw(
            "the hypervisor's image: success, its device tree: success, the static shared memory: success, OP-TEE's own: BAD_PARAMETERS, TF-A's: BAD_PARAMETERS, the UART: BAD_PARAMETERS, flash: BAD_PARAMETERS, an unaligned address: BAD_PARAMETERS, behind RAM: BAD_PARAMETERS",
        ),
    },
    Fact {
        name: "register-large",
        question: "How large may a buffer be?",
        did: Did::Saw("the largest buffer is 44 MiB (11411 pages); the VM works: true"),
    },
    Fact {
        name: "map-pta",
        question: "How large a buffer may a pseudo application be given (64 bytes of it)?",
        did: Did::Stops("Failed to spread pgdir on small tables"),
    },
    Fact {
        name: "map-app",
        question: "The same with a user application?",
        did: Did::Saw(
            "a user application that is given 64 bytes of a buffer of 1 MiB: BAD_PARAMETERS, 8 MiB: BAD_PARAMETERS, 16 MiB: BAD_PARAMETERS, 32 MiB: BAD_PARAMETERS, 60 MiB: registering: BAD_PARAMETERS",
        ),
    },
    Fact {
        name: "map-load",
        question: "How large may the normal world say that an application is?",
        did: Did::Stops("Failed to spread pgdir on small tables"),
    },
    Fact {
        name: "unregister-used",
        question: "UNREGISTER_SHM while a call uses the buffer?",
        did: Did::Saw(
            "register: success; UNREGISTER_SHM meanwhile waits by the RPC NOTIFICATION: true; the other call ends: ITEM_NOT_FOUND; then UNREGISTER_SHM: success",
        ),
    },
    Fact {
        name: "session-invoked",
        question: "INVOKE of a session that is being opened, and the opening fails?",
        did: Did::Saw(
            "INVOKE: ACCESS_DENIED; the opening ends: ITEM_NOT_FOUND; of 12 other sessions 12 open and 12 close; VM 1 works: true, VM 2: true",
        ),
    },
    Fact {
        name: "session-closed",
        question: "The same with CLOSE_SESSION?",
        did: Did::Saw(
            "the opening ends: ITEM_NOT_FOUND; CLOSE_SESSION then waits; of 12 other sessions 12 open and 12 close; CLOSE_SESSION at last waits; VM 1 works: true, VM 2: true",
        ),
    },
    Fact {
        name: "session-invoked-closed",
        question: "The same with INVOKE, then CLOSE_SESSION?",
        did: Did::Stops("Core data-abort"),
    },
    Fact {
        name: "session-renumbered",
        question: "INVOKE, interrupted before it finds its session, which is closed and its number given away?",
        did: Did::Stops("unexpected active mapping"),
    },
];
