//! The smallest programs that a kernel runs.

/// A statically linked ELF64 executable that exits with status 0. The architecture is named as
/// by the kernel or as by OCI: `x86_64` or `amd64`, `aarch64` or `arm64`.
pub fn minimal_elf(architecture: &str) -> Vec<u8> {
    match architecture {
        "x86_64" | "amd64" => executable(EM_X86_64, &X86_64_EXIT),
        "aarch64" | "arm64" => executable(EM_AARCH64, &AARCH64_EXIT),
        other => panic!("no program is known for {other}"),
    }
}

const EM_X86_64: u16 = 62;
const EM_AARCH64: u16 = 183;

/// `mov eax, 60; xor edi, edi; syscall`
const X86_64_EXIT: [u8; 9] = [0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05];

/// `mov x0, #0; mov x8, #93; svc #0`
const AARCH64_EXIT: [u8; 12] = [0x00, 0x00, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4];

const FILE_HEADER: u16 = 64;
const PROGRAM_HEADER: u16 = 56;
const BASE: u64 = 0x40_0000;
/// The largest page of the two architectures.
const ALIGNMENT: u64 = 0x1_0000;

fn executable(machine: u16, code: &[u8]) -> Vec<u8> {
    let start = u64::from(FILE_HEADER + PROGRAM_HEADER);
    let size = start + code.len() as u64;
    let mut file = Vec::new();
    // Magic, 64 bits, little-endian, version 1, System V.
    file.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    file.extend(2u16.to_le_bytes()); // ET_EXEC
    file.extend(machine.to_le_bytes());
    file.extend(1u32.to_le_bytes()); // version
    file.extend((BASE + start).to_le_bytes()); // entry point
    file.extend(u64::from(FILE_HEADER).to_le_bytes()); // where the program header is
    file.extend(0u64.to_le_bytes()); // no section headers
    file.extend(0u32.to_le_bytes()); // flags
    file.extend(FILE_HEADER.to_le_bytes());
    file.extend(PROGRAM_HEADER.to_le_bytes());
    file.extend(1u16.to_le_bytes()); // one program header
    file.extend([0; 6]); // no section headers
    file.extend(1u32.to_le_bytes()); // PT_LOAD
    file.extend(5u32.to_le_bytes()); // readable, executable
    file.extend(0u64.to_le_bytes()); // from the start of the file
    file.extend(BASE.to_le_bytes()); // virtual address
    file.extend(BASE.to_le_bytes()); // physical address
    file.extend(size.to_le_bytes()); // in the file
    file.extend(size.to_le_bytes()); // in memory
    file.extend(ALIGNMENT.to_le_bytes());
    file.extend(code);
    file
}
