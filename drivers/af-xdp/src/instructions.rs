//! BPF instructions and a tiny assembler: registers, jumps to labels, references to maps.
//!
//! As in the kernel's `Documentation/bpf/standardization/instruction-set.rst`. Only what our program
//! uses is here.

/// The registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Register {
    /// Results.
    R0,
    /// First argument of a call.
    R1,
    /// Second argument.
    R2,
    /// Third argument.
    R3,
    /// Scratch.
    R4,
    /// Scratch.
    R5,
    /// Kept over calls.
    R6,
    /// The frame: the stack ends there.
    R10 = 10,
}

/// How many bytes are loaded or stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Width {
    /// One byte.
    Byte = 0x10,
    /// Two bytes.
    Half = 0x08,
    /// Four bytes.
    Word = 0x00,
}

/// When a jump is taken, with unsigned numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum When {
    /// The two are equal.
    Equal = 0x10,
    /// The first is greater.
    Greater = 0x20,
    /// They differ.
    Different = 0x50,
    /// The first is less.
    Less = 0xa0,
}

/// What is computed, with 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Operation {
    /// Addition.
    Add = 0x00,
    /// Bitwise or.
    Or = 0x40,
    /// Bitwise and.
    And = 0x50,
    /// Shift to the left.
    ShiftLeft = 0x60,
    /// Shift to the right, zeros come in.
    ShiftRight = 0x70,
    /// The second as it is.
    Move = 0xb0,
}

/// One instruction as the kernel reads it, in this machine's byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const _: () = assert!(size_of::<Instruction>() == 8);

/// A place that jumps lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(usize);

/// Puts a program together.
#[derive(Debug, Default)]
pub struct Assembler {
    instructions: Vec<Instruction>,
    /// By label: where it is, once it is known.
    labels: Vec<Option<usize>>,
    /// Jumps: which instruction, and to which label.
    jumps: Vec<(usize, Label)>,
}

const IMMEDIATE: u8 = 0x00;
const FROM_REGISTER: u8 = 0x08;
const LOAD: u8 = 0x61;
const STORE: u8 = 0x63;
const LOAD_MAP: u8 = 0x18;
const PSEUDO_MAP_FD: u8 = 1;
const CLASS_ALU64: u8 = 0x07;
const CLASS_JUMP: u8 = 0x05;
const TO_BIG_ENDIAN: u8 = 0xdc;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const JUMP_ALWAYS: u8 = 0x05;

impl Assembler {
    fn push(&mut self, code: u8, to: u8, from: u8, offset: i16, immediate: i32) {
        // Bit fields of a byte: their order is that of the machine's bytes.
        let registers =
            if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
        self.instructions.push(Instruction { code, registers, offset, immediate });
    }

    /// `to = *(from + offset)`.
    pub fn load(&mut self, width: Width, to: Register, from: Register, offset: i16) {
        self.push(LOAD | width as u8, to as u8, from as u8, offset, 0);
    }

    /// `*(to + offset) = from`.
    pub fn store(&mut self, width: Width, to: Register, offset: i16, from: Register) {
        self.push(STORE | width as u8, to as u8, from as u8, offset, 0);
    }

    /// `to = to operation value`.
    pub fn compute(&mut self, operation: Operation, to: Register, value: i32) {
        self.push(CLASS_ALU64 | IMMEDIATE | operation as u8, to as u8, 0, 0, value);
    }

    /// `to = to operation from`.
    pub fn compute_with(&mut self, operation: Operation, to: Register, from: Register) {
        self.push(CLASS_ALU64 | FROM_REGISTER | operation as u8, to as u8, from as u8, 0, 0);
    }

    /// Turns the low two bytes from the network's order into a number.
    pub fn from_network_half(&mut self, register: Register) {
        self.push(TO_BIG_ENDIAN, register as u8, 0, 0, 16);
    }

    /// A map, by its descriptor: two instructions.
    pub fn load_map(&mut self, to: Register, descriptor: i32) {
        self.push(LOAD_MAP, to as u8, PSEUDO_MAP_FD, 0, descriptor);
        self.push(0, 0, 0, 0, 0);
    }

    /// Calls one of the kernel's helpers.
    pub fn call(&mut self, helper: i32) {
        self.push(CALL, 0, 0, 0, helper);
    }

    /// Ends with what is in R0.
    pub fn exit(&mut self) {
        self.push(EXIT, 0, 0, 0, 0);
    }

    /// A label without a place yet.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// The label is here.
    pub fn place(&mut self, label: Label) {
        self.labels[label.0] = Some(self.instructions.len());
    }

    /// Jumps if a register compares so with a number.
    pub fn jump_if(&mut self, when: When, register: Register, value: i32, to: Label) {
        self.jumps.push((self.instructions.len(), to));
        self.push(CLASS_JUMP | IMMEDIATE | when as u8, register as u8, 0, 0, value);
    }

    /// Jumps if a register compares so with another.
    pub fn jump_if_with(&mut self, when: When, one: Register, other: Register, to: Label) {
        self.jumps.push((self.instructions.len(), to));
        self.push(CLASS_JUMP | FROM_REGISTER | when as u8, one as u8, other as u8, 0, 0);
    }

    /// Jumps.
    pub fn jump(&mut self, to: Label) {
        self.jumps.push((self.instructions.len(), to));
        self.push(JUMP_ALWAYS, 0, 0, 0, 0);
    }

    /// The program. `None` if a label was not placed, or is too far.
    pub fn finish(mut self) -> Option<Vec<Instruction>> {
        for (at, label) in self.jumps {
            let target = self.labels[label.0]?;
            let distance = target as isize - at as isize - 1;
            self.instructions[at].offset = i16::try_from(distance).ok()?;
        }
        Some(self.instructions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(program: &[Instruction]) -> Vec<[u8; 4]> {
        program
            .iter()
            .map(|it| [it.code, it.registers, it.offset as u8, it.immediate as u8])
            .collect()
    }

    #[test]
    fn instructions_are_those_of_the_standard() {
        let mut a = Assembler::default();
        a.load(Width::Word, Register::R2, Register::R1, 4);
        a.load(Width::Half, Register::R5, Register::R2, 12);
        a.load(Width::Byte, Register::R5, Register::R2, 23);
        a.store(Width::Word, Register::R10, -4, Register::R1);
        a.compute(Operation::Move, Register::R0, 2);
        a.compute_with(Operation::Add, Register::R2, Register::R5);
        a.from_network_half(Register::R5);
        a.load_map(Register::R1, 9);
        a.call(51);
        a.exit();
        let expected = [
            [0x61, 0x12, 4, 0],
            [0x69, 0x25, 12, 0],
            [0x71, 0x25, 23, 0],
            [0x63, 0x1a, 0xfc, 0],
            [0xb7, 0x00, 0, 2],
            [0x0f, 0x52, 0, 0],
            [0xdc, 0x05, 0, 16],
            [0x18, 0x11, 0, 9],
            [0, 0, 0, 0],
            [0x85, 0, 0, 51],
            [0x95, 0, 0, 0],
        ];
        assert_eq!(bytes(&a.finish().expect("no jumps")), expected);
    }

    #[test]
    fn jumps_count_from_the_next_instruction() {
        let mut a = Assembler::default();
        let (end, next) = (a.label(), a.label());
        a.jump_if(When::Different, Register::R5, 17, end);
        a.jump_if_with(When::Greater, Register::R4, Register::R3, next);
        a.place(next);
        a.jump(end);
        a.place(end);
        a.exit();
        let program = a.finish().expect("placed");
        assert_eq!(
            bytes(&program),
            [[0x55, 5, 2, 17], [0x2d, 0x34, 0, 0], [0x05, 0, 0, 0], [0x95, 0, 0, 0]]
        );
    }

    #[test]
    fn a_label_without_a_place_makes_no_program() {
        let mut a = Assembler::default();
        let nowhere = a.label();
        a.jump(nowhere);
        assert_eq!(a.finish(), None);
    }
}
