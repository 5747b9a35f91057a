"""Compile for sm_90, without a GPU, the kernels that `gpu_encode` launches at the size of the study.

`gpu_encode` runs on meta tensors, which have shapes and no values, and every launch goes to Triton's compiler instead
of a GPU. So the arguments' types and alignments are those of the real call, and a call that read a value, for which a
GPU would make the host wait, would fail. Writes a line of JSON per kernel.

    python -m tests.support.kernel_ahead_of_time [CALL ...]

`steps_ahead_of_time` adds those of a step of SAE training, `attention_ahead_of_time` that of attention, and
`drawn_ahead_of_time` that of drawn pairs.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import chain
from typing import Any, NamedTuple

import torch
import triton
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from tegakari.kernels import Encoder
from tegakari.kernels.gpu import encode
from tegakari.kernels.types import CandidateBuffer, Drawn, EncodeInputs, RowSelection, TallyBatch, empty_tally
from tegakari.store.blocks.activations import DROPPED_BITS
from tegakari.store.contexts import WINDOW

TARGET = GPUTarget("cuda", 90, 32)
POINTERS = {
    torch.float64: "*fp64",
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.int32: "*i32",
    torch.int64: "*i64",
    torch.bool: "*i1",
}


class Usage(NamedTuple):
    """Resources of one compiled kernel."""

    kernel: str
    call: str
    registers: int
    spilled: int
    """Bytes of stack."""
    shared: int
    """Bytes of shared memory."""
    atomics: int
    """Atomic instructions."""
    float_atomics: int
    """Those on floating-point numbers."""


def variant_of(kernel: Any, arguments: tuple[Any, ...], constants: dict[str, Any]) -> str:
    """What a launch is compiled for, and the values of its numbers."""
    types = [value.dtype if isinstance(value, torch.Tensor) else value for value in arguments]
    return f"{kernel.__name__} {types} {constants}"


def compiled(kernel: Any, call: str, arguments: tuple[Any, ...], constants: dict[str, Any]) -> Usage:
    """Compile a launch with the specializations of Triton's runtime: ones are constants, multiples of 16 are marked."""
    options = {name: constants.pop(name) for name in ("num_warps", "num_stages") if name in constants}
    values = dict(zip(kernel.arg_names, arguments, strict=False)) | constants
    signature: dict[str, str] = {}
    fixed: dict[tuple[int, ...], Any] = {}
    attributes: dict[tuple[int, ...], Any] = {}
    for index, parameter in enumerate(kernel.params):
        value = values[parameter.name]
        specialized = not parameter.do_not_specialize
        if parameter.is_constexpr or (specialized and isinstance(value, int) and value == 1):
            signature[parameter.name] = "constexpr"
            fixed[(index,)] = value
            continue
        if isinstance(value, float):
            signature[parameter.name] = "fp32"
            continue
        signature[parameter.name] = POINTERS[value.dtype] if isinstance(value, torch.Tensor) else "i32"
        aligned = specialized and not parameter.do_not_specialize_on_alignment
        if aligned and (isinstance(value, torch.Tensor) or value % 16 == 0):
            attributes[(index,)] = [["tt.divisibility", 16]]
    program = triton.compile(ASTSource(kernel, signature, fixed, attributes), target=TARGET, options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(program.asm["cubin"])
        file.flush()
        usage = _output(knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name)
        code = _output(knobs.nvidia.nvdisasm.path, "-c", file.name)
    resources = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert resources, usage
    registers, spilled = map(int, resources.groups())
    return Usage(
        kernel=kernel.__name__,
        call=call,
        registers=registers,
        spilled=spilled,
        shared=program.metadata.shared,
        atomics=len(re.findall(r"\b(?:ATOM|ATOMG|ATOMS|RED|REDG)\b", code)),
        float_atomics=len(re.findall(r"\b(?:ATOM|ATOMG|ATOMS|RED|REDG)\b[^;]*\.F(?:16|32|64)", code)),
    )


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def encoder(dtype: torch.dtype, d_model: int, d_sae: int, *, gated: bool = False, k: int | None = None) -> Encoder:
    """Encoder on the meta device."""
    vector = torch.empty(d_sae, device="meta")
    gate = vector if gated else None
    return Encoder(torch.empty(d_model, d_sae, device="meta", dtype=dtype), vector, vector, k, gate, gate)


def launches(names: list[str]) -> Iterator[Usage]:
    """Compile the kernels of the named calls; of all by default, which reach every variant of the kernels."""
    usages: list[Usage] = []
    wide = (torch.bfloat16, 2304, 9216)
    calls: dict[str, tuple[Encoder, int, RowSelection]] = {
        "tally": (encoder(*wide), 4096, "last"),
        "all": (encoder(*wide), 4096, "all"),
        "topk": (encoder(*wide, k=64), 4096, "none"),
        "topk 1000": (encoder(torch.bfloat16, 2304, 65536, k=1000), 512, "none"),
        "topk layer_norm": (encoder(*wide, k=64)._replace(input_norm="layer_norm", centred=True), 4096, "all"),
        "gated float32": (encoder(torch.float32, 2304, 9216, gated=True), 4096, "all"),
        "odd": (encoder(torch.bfloat16, 77, 1003, gated=True), 1, "last"),
    }
    variants: set[str] = set()
    meta = torch.device("meta")
    for call in names or calls:
        sae, positions, rows = calls[call]

        def compile_instead(kernel: Any, programs: int, *arguments: Any, call: str = call, **constants: Any) -> None:
            variant = variant_of(kernel, arguments, constants)
            if variant not in variants:
                variants.add(variant)
                usages.append(compiled(kernel, call, arguments, constants))

        encode.launch = compile_instead
        d_model, d_sae = sae.weight.shape
        residual = torch.empty(positions, d_model, device="meta", dtype=sae.weight.dtype)
        documents = max(1, positions // 128)
        ends = [positions * document // documents for document in range(documents + 1)]
        offsets = torch.tensor(ends)
        floor = torch.empty(d_sae, device="meta")
        encode.gpu_encode(EncodeInputs(residual, sae, offsets, rows, floor))
        # As an index does: with a mask of ordinary positions, into a tally that outlives the call.
        tally = empty_tally(documents + 1, d_sae, meta, CandidateBuffer(2**20, meta))
        ordinary = torch.empty(positions, dtype=torch.bool, device="meta")
        drawn = Drawn(torch.empty(documents, d_sae, dtype=torch.bool, device="meta"), WINDOW, DROPPED_BITS)
        for apart in False, True:
            batch = TallyBatch(ends, offsets.to(meta), 1, 2, apart=apart)
            encode.gpu_tally(residual, sae, batch, floor, ordinary, tally, drawn)
        yield from usages
        usages.clear()


if __name__ == "__main__":
    from tests.support.attention_ahead_of_time import ATTENTION, attention_launches  # they import this module
    from tests.support.drawn_ahead_of_time import DRAWN, drawn_launches
    from tests.support.steps_ahead_of_time import STEPS, step_launches

    names = sys.argv[1:]
    steps = [name for name in names or STEPS if name in STEPS]
    attentions = [name for name in names or ATTENTION if name in ATTENTION]
    drawn = [name for name in names or DRAWN if name in DRAWN]
    calls = [name for name in names if name not in {*STEPS, *ATTENTION, *DRAWN}]
    encodes = launches(calls) if calls or not names else []
    for usage in chain(encodes, step_launches(steps), attention_launches(attentions), drawn_launches(drawn)):
        sys.stdout.write(json.dumps(usage._asdict()) + "\n")
