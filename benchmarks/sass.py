"""The machine code of a CUDA kernel, as ``cuobjdump -sass`` prints it: what it is made of, how long
a warp takes for it, and how often each part of it runs.

A part is found by its mark, an instruction that stands at its head (``-DSPLIC_MARKS``).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

LINE = re.compile(r"\s+/\*([0-9a-f]{4,})\*/\s+(.*?);?\s*/\* 0x([0-9a-f]{16}) \*/")
SECOND = re.compile(r"\s+/\* 0x([0-9a-f]{16}) \*/")
FUNCTION = re.compile(r"\s*Function : (\S+)")

#: Cycles until the result of an instruction is there, where the code waits for a scoreboard. Those
#: of the others stand in the code, as stalls.
LATENCY = {
    "LDS": 29, "STS": 20, "SHFL": 24, "MUFU": 24, "LDL": 35, "STL": 20, "LDC": 30, "ULDC": 30,
    "LDG": 500, "STG": 20, "S2R": 25, "F2F": 24, "I2F": 24, "F2I": 24, "DFMA": 16, "DMUL": 16,
    "DADD": 16, "DSETP": 16,
}  # fmt: skip
SINGLE = ("FFMA", "FADD", "FMUL")  # what the FP32 units do


@dataclass(frozen=True)
class Instruction:
    """An instruction with what the compiler says of its timing."""

    address: int
    text: str
    control: int

    @property
    def operation(self) -> str:
        """Its name, without the predicate that guards it and with its suffixes."""
        return re.sub(r"^@!?U?P\w+\s+", "", self.text).split()[0]

    @property
    def name(self) -> str:
        return self.operation.partition(".")[0]

    @property
    def target(self) -> int | None:
        """Where it may branch to."""
        found = re.search(r"0x([0-9a-f]+)\s*$", self.text)
        return int(found[1], 16) if found and self.name in ("BRA", "BSSY") else None

    @property
    def mark(self) -> int | None:
        found = re.search(r"0x([0-9a-f]+)", self.text)
        return int(found[1], 16) if found and self.name == "PMTRIG" else None

    def wavefronts(self, alike: bool) -> int:
        """Return the cycles that it keeps the pipe of shared memory and shuffles.

        128 bytes take one, and a load of 16 bytes two where all lanes read the same.
        """
        if self.name == "SHFL":
            return 1
        if self.name not in ("LDS", "STS"):
            return 0
        if ".128" in self.operation:
            return 2 if alike and self.name == "LDS" else 4
        return 2 if ".64" in self.operation else 1


@dataclass
class Block:
    """Instructions of which all run, or none; the mark that tells how often, its own or before."""

    code: list[Instruction] = field(default_factory=list)
    mark: int | None = None
    alike: bool = True  # whether all lanes load the same

    @property
    def wavefronts(self) -> int:
        return sum(one.wavefronts(self.alike) for one in self.code)

    def cycles(self) -> int:
        """Return the cycles of a warp that has the multiprocessor for itself."""
        free, pipe, time, begun = [0] * 6, 0, 0, 0
        for _ in range(2):  # the second time with what the first has left on its way
            begun = time
            for one in self.code:
                control = one.control
                stall, write, read = control & 0xF, control >> 5 & 7, control >> 8 & 7
                for number in range(6):
                    if control >> 11 >> number & 1:
                        time = max(time, free[number])
                at = time
                if taken := one.wavefronts(self.alike):
                    at = pipe = max(time, pipe + taken)
                if write < 6:
                    free[write] = max(free[write], at + LATENCY.get(one.name, 20))
                if read < 6:
                    free[read] = max(free[read], at + 12)
                time += max(stall, 1)
        return time - begun


def functions(text: str) -> dict[str, list[Instruction]]:
    """Return the instructions of each function of a listing."""
    found: dict[str, list[Instruction]] = {}
    code: list[Instruction] = []
    pending: tuple[int, str] | None = None
    for line in text.splitlines():
        if named := FUNCTION.match(line):
            code = found.setdefault(named[1], [])
        elif one := LINE.match(line):
            pending = int(one[1], 16), one[2].strip()
        elif pending and (more := SECOND.match(line)):
            code.append(Instruction(*pending, int(more[1], 16) >> 41 & 0x1FFFFF))
            pending = None
    return found


def blocks(code: list[Instruction]) -> list[Block]:
    """Cut a kernel into blocks, each with the last mark that is not behind it.

    What lies behind the end of the kernel (divisions of rare numbers, and copies for a warp whose
    lanes have parted) counts as never run.
    """
    heads = {one.target for one in code}
    result = [Block()]
    for one in code:
        if one.address in heads and result[-1].code:
            result.append(Block())
        result[-1].code.append(one)
        if one.name in ("BRA", "BRX", "EXIT", "RET", "CALL", "JMP"):
            result.append(Block())
    result = [block for block in result if block.code]
    mark: int | None = None
    ended = False
    for block in result:
        if ended:
            continue
        own = [one.mark for one in block.code if one.mark is not None]
        mark = own[0] if own else mark
        block.mark = mark
        ended = block.code[-1].text == "EXIT"
    return result


@dataclass(frozen=True)
class Work:
    """What a kernel does, all warps and iterations together."""

    instructions: float
    single: float
    local: float  # those of them that move registers to memory and back
    wavefronts: float
    cycles: float
    parts: dict[int, float]  # instructions behind each mark


def work(code: list[Instruction], counts: dict[int, int], unlike: frozenset[int]) -> Work:
    """Weigh each block by how often its mark was met, shared by the copies of the mark.

    unlike: the marks of parts in which each lane loads entries of its own.
    """
    cut = blocks(code)
    for block in cut:
        block.alike = block.mark not in unlike
    copies: Counter[int] = Counter()
    for block in cut:
        if block.mark is not None:
            copies.update(one.mark for one in block.code if one.mark is not None)
    lost = sorted(set(counts) - set(copies))
    if lost:
        raise ValueError(f"the machine code has no mark of these parts, which run: {lost}")
    parts: dict[int, float] = {}
    single = local = wavefronts = cycles = 0.0
    for block in cut:
        if block.mark is None:
            continue
        times = counts.get(block.mark, 0) / max(1, copies[block.mark])
        real = [one for one in block.code if one.mark is None]
        parts[block.mark] = parts.get(block.mark, 0.0) + times * len(real)
        single += times * sum(one.name in SINGLE for one in real)
        local += times * sum(one.name in ("LDL", "STL") for one in real)
        wavefronts += times * block.wavefronts
        cycles += times * (block.cycles() - sum(one.mark is not None for one in block.code))
    return Work(sum(parts.values()), single, local, wavefronts, cycles, parts)
