"""SAEDashboard over some features of one layer, in an interpreter that has it. Started by `benchmarks.peers`.

SAEDashboard runs only TransformerLens models, so the classifier's blocks are copied into one; the embedding replaces
the language model head, which a classifier does not have. The layout is reduced to the strongest contexts, as far as
possible.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks.peer_program import serve

Turn = Callable[[str], dict[str, Any]]
SPECIAL = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}


def hooked_model(directory: Path) -> Any:
    """The classifier's blocks as a HookedSAETransformer, without its head."""
    from sae_lens import HookedSAETransformer  # pyright: ignore[reportMissingImports]
    from transformer_lens import HookedTransformerConfig  # pyright: ignore[reportMissingImports]
    from transformer_lens.pretrained.weight_conversions.gemma import (  # pyright: ignore[reportMissingImports]
        convert_gemma_weights,
    )
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast

    classifier = AutoModelForSequenceClassification.from_pretrained(directory, attn_implementation="eager").eval()
    config = classifier.config
    hooked_config = HookedTransformerConfig(
        d_model=config.hidden_size,
        d_head=config.head_dim,
        n_heads=config.num_attention_heads,
        n_key_value_heads=config.num_key_value_heads,
        d_mlp=config.intermediate_size,
        n_layers=config.num_hidden_layers,
        n_ctx=512,
        eps=config.rms_norm_eps,
        d_vocab=config.vocab_size,
        act_fn="gelu_pytorch_tanh",
        normalization_type="RMS",
        rotary_base=10_000,
        rotary_dim=config.head_dim,
        positional_embedding_type="rotary",
        use_attn_scale=True,
        attn_scale=config.query_pre_attn_scalar**0.5,
        window_size=4096,
        use_local_attn=True,
        attn_types=["global", "local"] * config.num_hidden_layers,
        attn_scores_soft_cap=config.attn_logit_softcapping,
        output_logits_soft_cap=config.final_logit_softcapping,
        gated_mlp=True,
        final_rms=True,
        use_normalization_before_and_after=True,
        device="cpu",
    )
    # transformers 4 cannot name the tokenizer class that transformers 5 wrote.
    copy = directory.with_name("tokenizer-of-transformers-4")
    PreTrainedTokenizerFast(tokenizer_file=str(directory / "tokenizer.json"), **SPECIAL).save_pretrained(copy)
    tokenizer = AutoTokenizer.from_pretrained(copy)
    model = HookedSAETransformer(hooked_config, tokenizer=tokenizer, default_padding_side="right")
    embedding = classifier.model.embed_tokens
    language_model = SimpleNamespace(model=classifier.model, lm_head=SimpleNamespace(weight=embedding.weight))
    model.load_state_dict(convert_gemma_weights(language_model, hooked_config), strict=False)
    return model.eval()


def sae_of(directory: Path) -> Any:
    """SAE loaded by SAELens."""
    from sae_lens import SAE  # pyright: ignore[reportMissingImports]

    return SAE.load_from_disk(directory, device="cpu")


def prepare(root: Path, layer: int, features: int, contexts: int, clock: str) -> tuple[str, Turn]:
    from sae_dashboard.components_config import (  # pyright: ignore[reportMissingImports]
        ActsHistogramConfig,
        Column,
        FeatureTablesConfig,
        LogitsHistogramConfig,
        LogitsTableConfig,
        SequencesConfig,
    )
    from sae_dashboard.layout import SaeVisLayoutConfig  # pyright: ignore[reportMissingImports]
    from sae_dashboard.sae_vis_data import SaeVisConfig  # pyright: ignore[reportMissingImports]
    from sae_dashboard.sae_vis_runner import SaeVisRunner  # pyright: ignore[reportMissingImports]

    documents = load_file(root / "documents.safetensors")
    model = hooked_model(root / "classifier")
    directory = sorted((root / "saes").iterdir())[layer]
    layout = SaeVisLayoutConfig(
        columns=[
            Column(
                SequencesConfig(buffer=(5, 5), n_quantiles=0, top_acts_group_size=contexts),
                ActsHistogramConfig(),
                LogitsHistogramConfig(),
                LogitsTableConfig(),
                FeatureTablesConfig(),
            )
        ]
    )

    now = getattr(time, clock)

    @torch.no_grad()
    def turn(_line: str) -> dict[str, Any]:
        sae = sae_of(directory)
        start = now()
        config = SaeVisConfig(
            hook_point=f"blocks.{layer}.hook_resid_post",
            features=list(range(features)),
            feature_centric_layout=layout,
            ignore_tokens={0, 1, 2},
        )
        data = SaeVisRunner(config).run(encoder=sae, model=model, tokens=documents["tokens"])
        stop = now()
        tops = [group_top(data.feature_data_dict[feature].sequence_data) for feature in range(features)]
        return {"seconds": stop - start, "features": len(data.feature_data_dict), "top": tops}

    return version("sae-dashboard"), turn


def group_top(sequences: Any) -> float:
    """Activation of the strongest position of a feature."""
    return max((max(sequence.feat_acts) for sequence in sequences.seq_group_data[0].seq_data), default=0.0)


if __name__ == "__main__":
    serve(lambda: prepare(Path(sys.argv[1]), *map(int, sys.argv[2:5]), clock=sys.argv[5]))
