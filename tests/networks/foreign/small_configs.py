"""A small network of any model type of `transformers`: sizes by the name that a configuration gives them, and inputs.

Nothing is downloaded. What the names do not say stands in `EXCEPTIONS`; which types are in the zoo, and why others are
not, is the list in `transformer_types.json`, which `python benchmarks/foreign_zoo.py types` writes.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

VOCABULARY, LENGTH, PIXELS, MELS, SAMPLES = 64, 12, 32, 16, 800

SMALL: dict[str, int] = {
    **dict.fromkeys(
        ("hidden_size", "d_model", "n_embd", "embed_dim", "embedding_size", "embedding_dim", "word_embed_proj_dim",
         "encoder_hidden_size", "decoder_hidden_size", "dim", "model_dim", "projection_dim", "hidden_dim", "emb_dim",
         "shared_embedding_dim", "output_hidden_size",
         "out_hidden_size", "projector_hidden_size", "cross_attention_dim",
         "pooler_output_size", "image_text_hidden_size", "text_hidden_size", "vision_hidden_size", "hidden_channels",
         "fusion_hidden_size", "mask_feature_size", "fpn_feature_size", "encoder_hidden_dim", "channels", "lru_width",
         "embed_size", "attention_hidden_size", "text_embed_dim", "audio_embed_dim", "projection_hidden_size",
         "decoder_embed_dim", "inner_dim"),
        32,
    ),
    **dict.fromkeys(
        ("intermediate_size", "n_inner", "d_ff", "d_inner", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim",
         "inner_size",
         "moe_intermediate_size", "shared_expert_intermediate_size", "mlp_dim", "encoder_intermediate_size",
         "decoder_intermediate_size", "dim_feedforward", "ffn_hidden_size", "intermediate_dim",
         "shared_intermediate_size",
         "encoder_feedforward_dim", "feed_forward_hidden_size", "expert_ffn_hidden_size", "mlp_hidden_size",
         "block_ff_dim", "hidden_dim_ffn", "ffn_hidden_dim", "ffn_intermediate_size", "feedforward_dim"),
        64,
    ),
    **dict.fromkeys(
        ("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads", "decoder_attention_heads",
         "encoder_num_attention_heads", "decoder_num_attention_heads", "attention_heads", "num_query_heads",
         "cross_attention_num_heads", "d_head_num"),
        4,
    ),
    **dict.fromkeys(
        ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers", "depth",
         "layers",
         "num_decoder_layers", "num_encoder_layers", "decoder_num_hidden_layers", "encoder_num_hidden_layers",
         "num_block_layers", "decoder_num_layers", "num_dense_layers", "local_encoder_layers", "num_blocks"),
        2,
    ),
    **dict.fromkeys(("head_dim", "d_kv", "kv_channels", "attention_head_size", "d_head", "v_head_dim",
                     "linear_key_head_dim", "linear_value_head_dim", "linear_head_dim"), 8),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim"), 8),
    "qk_head_dim": 16,
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 16),
    **dict.fromkeys(("rotary_dim", "rotary_ndims"), 4),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads", "linear_num_heads"), 4),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_source_positions", "max_target_positions",
                     "n_ctx", "context_length", "seq_length", "model_max_length"), 40),
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input", "entity_vocab_size", "decoder_vocab_size",
                     "codebook_size", "text_vocab_size", "audio_vocab_size", "xpath_vocab"), VOCABULARY),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "num_experts_per_token", "topk_group", "n_group",
                     "num_selected_experts"), 2),
    **dict.fromkeys(("n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "first_k_dense_replace"), 1),
    **dict.fromkeys(("image_size", "pretrain_image_size"), PIXELS),
    "patch_size": 4,
    "conv_pos_kernel_size": 3,
    **dict.fromkeys(("num_mel_bins", "feature_size", "num_mel_bands"), MELS),
    **dict.fromkeys(("window_size", "attention_window"), 4),
    **dict.fromkeys(("sliding_window", "local_attention_window_size"), 8),
    **dict.fromkeys(("pad_token_id", "boi_token_id"), 0),
    **dict.fromkeys(("bos_token_id", "decoder_start_token_id", "cls_token_id", "forced_bos_token_id"), 1),
    **dict.fromkeys(("eos_token_id", "sep_token_id", "forced_eos_token_id"), 2),
    **dict.fromkeys(("image_token_id", "image_token_index", "video_token_id", "audio_token_id", "audio_token_index",
                     "video_token_index", "vision_start_token_id", "vision_end_token_id", "video_start_token_id",
                     "video_end_token_id", "mask_token_id", "image_start_token_id", "image_end_token_id"), 63),
    "type_vocab_size": 2,
    "num_queries": 6,
    **dict.fromkeys(("num_frames", "tubelet_size", "temporal_patch_size"), 2),
    **dict.fromkeys(("mamba_d_state", "state_size", "ssm_state_size", "mamba_num_heads", "mamba_n_heads"), 8),
    "mamba_d_head": 8,
    "mamba_head_dim": 8,
    **dict.fromkeys(("mamba_chunk_size", "chunk_size"), 8),
    **dict.fromkeys(("time_step_rank", "mamba_dt_rank", "n_groups", "mamba_n_groups"), 2),
    **dict.fromkeys(("num_conv_pos_embeddings", "num_conv_pos_embedding_groups"), 4),
    **dict.fromkeys(("conv_kernel_size", "conv_depthwise_kernel_size"), 3),
    **dict.fromkeys(("index_n_heads",), 4),
    **dict.fromkeys(("index_head_dim", "index_topk"), 8),
    **dict.fromkeys(("relative_attention_num_buckets",), 8),
    **dict.fromkeys(("relative_attention_max_distance",), 16),
    "embedding_dim_per_layer": 8,
    "hidden_size_per_layer_input": 8,
    "attention_chunk_size": 8,
    "num_nextn_predict_layers": 0,
    "max_2d_position_embeddings": 64,
    "bottleneck_size": 8,
}  # fmt: skip
"""Attribute of a configuration -> its small value; only those that a configuration has are set."""
LISTS: dict[str, Any] = {
    "hidden_sizes": 16,
    "conv_dim": 16,
    "embed_dims": 16,
    "decoder_hidden_sizes": 16,
    "depths": 1,
    "neck_hidden_sizes": 16,
}
"""Attribute that is a list of numbers -> what each of them becomes, times 1, 1, 2, 2, ... for widths."""

_WINDOWS: dict[str, Any] = {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}
_STAGES: dict[str, Any] = {"hidden_sizes": [16, 16, 32, 32], "num_attention_heads": [1, 2, 2, 4]}
_THREE_AXES: dict[str, Any] = {
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
}
EXCEPTIONS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("swin", "swinv2", "swin2sr", "donut-swin", "maskformer-swin"), _WINDOWS),
    **dict.fromkeys(("pvt", "pvt_v2", "glpn"), _STAGES),
    **dict.fromkeys(("qwen2_vl_text", "qwen2_5_vl_text", "glm4v_text", "glm_ocr_text", "glm_image_text"), _THREE_AXES),
    "bit": {"num_groups": 4, "embedding_size": 16, "hidden_sizes": [16, 16], "depths": [1, 1]},
    "canine": {"num_hash_buckets": 64},
    "cpmant": {"prompt_types": 2, "prompt_length": 4, "segment_types": 4},
    "ctrl": {"dff": 64},
    "cvt": {"embed_dim": [16, 16, 32], "depth": [1, 1, 1], "num_heads": [1, 2, 2]},
    "deepseek_v2": {"num_experts_per_tok": 2, "topk_group": 1, "n_group": 1},
    "efficientnet": {"width_coefficient": 0.25, "depth_coefficient": 0.3, "hidden_dim": 320},
    "ernie4_5_moe": {"moe_k": 2},
    "esm": {"vocab_size": VOCABULARY},
    "focalnet": {"embed_dim": 16, "depths": [1, 1], "focal_levels": [1, 1], "focal_windows": [3, 3]},
    "fsmt": {"langs": ["en", "de"], "src_vocab_size": VOCABULARY, "tgt_vocab_size": VOCABULARY},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granite_speech5_encoder": {"context_size": 8},
    "led": {"max_encoder_position_embeddings": 32, "max_decoder_position_embeddings": 32},
    "markuplm": {
        "max_depth": 4,
        "xpath_unit_hidden_size": 8,
        "max_xpath_tag_unit_embeddings": 16,
        "max_xpath_subs_unit_embeddings": 16,
        "tag_pad_id": 0,
        "subs_pad_id": 0,
    },
    "mobilenet_v1": {"depth_multiplier": 0.125},
    "mobilenet_v2": {"depth_multiplier": 0.125},
    "rembert": {"input_embedding_size": 32, "output_embedding_size": 32},
    "roc_bert": {
        "pronunciation_vocab_size": 16,
        "shape_vocab_size": 16,
        "pronunciation_embed_dim": 8,
        "shape_embed_dim": 8,
    },
    "sew-d": {"position_buckets": 8, "max_relative_positions": 16},
    "speech_to_text": {"conv_channels": 32, "input_feat_per_channel": MELS, "max_source_positions": 200},
    "videomae": {"num_frames": 2, "tubelet_size": 2, "image_size": PIXELS, "patch_size": 4},
    "vivit": {"num_frames": 2, "tubelet_size": [2, 4, 4], "image_size": PIXELS},
    "wav2vec2-bert": {"feature_projection_input_dim": MELS},
    "xmod": {"default_language": "en_XX"},
    "yolos": {"num_detection_tokens": 5, "image_size": [PIXELS, PIXELS]},
    "zaya": {"num_experts_per_tok": 1},
}
"""Model type -> values of its configuration that the names do not tell."""

Small = dict[str, Any]


def small_values(known: Any, given: Small | None = None) -> Small:
    """The values of a configuration that is made small.

    Args:
        known: the configuration as it is by default.
        given: values that stand above the usual small ones.
    """
    given, found = given or {}, dict[str, Any]()
    for name, value in vars(known).items():
        if name in given:
            continue
        if hasattr(value, "to_dict"):
            found[name] = type(value)(**small_values(value))
        elif type(value) is int and name in SMALL:
            found[name] = SMALL[name]
        elif isinstance(value, list | tuple) and name in LISTS and all(type(one) is int for one in value):
            found[name] = type(value)(_spread(name, len(value)))
    for few, many in (("num_key_value_heads", "num_attention_heads"), ("num_kv_heads", "num_attention_heads")):
        if type(getattr(known, few, None)) is int and many in found and few not in given:
            found[few] = 2 if getattr(known, few) < getattr(known, many) else 4
    return {**found, **given}


def _spread(name: str, number: int) -> list[int]:
    return [
        LISTS[name] if name == "depths" or name == "conv_dim" else LISTS[name] * (1 + at // 2) for at in range(number)
    ]


def built(kind: str, given: Small | None = None) -> nn.Module:
    """A small network of a model type, its weights drawn.

    Raises:
        Exception: of any kind, whatever the network's own code raises.
    """
    from transformers import AutoModel
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kinds = CONFIG_MAPPING[kind]
    config = kinds(**small_values(kinds(), given or EXCEPTIONS.get(kind)))
    for own in (config, *(part for part in vars(config).values() if hasattr(part, "to_dict"))):
        own.use_cache = False
    torch.manual_seed(0)
    return AutoModel.from_config(config).eval()


def candidates(model: nn.Module, batch: int) -> dict[str, dict[str, Tensor]]:
    """Inputs that such a network may take, the likely ones first: name of the kind -> inputs by keyword."""
    chance = torch.Generator().manual_seed(1)
    takes = inspect.signature(model.forward).parameters
    main = getattr(model, "main_input_name", "input_ids")

    def ids(length: int = LENGTH) -> Tensor:
        return torch.randint(3, VOCABULARY - 4, (batch, length), generator=chance)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=chance)

    kinds: dict[str, dict[str, Tensor]] = {
        "ids": {"input_ids": ids()},
        "ids both": {"input_ids": ids(), "decoder_input_ids": ids(9)},
        "pixels": {"pixel_values": numbers(3, PIXELS, PIXELS)},
        "pixels 64": {"pixel_values": numbers(3, 64, 64)},
        "grey pixels": {"pixel_values": numbers(1, PIXELS, PIXELS)},
        "pixels and ids": {"input_ids": ids(), "pixel_values": numbers(3, PIXELS, PIXELS)},
        "frames": {"pixel_values": numbers(2, 3, PIXELS, PIXELS)},
        "video": {"pixel_values_videos": numbers(2, 3, PIXELS, PIXELS)},
        "sound": {"input_values": numbers(SAMPLES)},
        "sound of a channel": {"input_values": numbers(1, SAMPLES)},
        "mels first": {"input_features": numbers(MELS, 128)},
        "mels": {"input_features": numbers(40, MELS)},
        "mels both": {"input_features": numbers(MELS, 128), "decoder_input_ids": ids(9)},
        "mels and ids": {"input_features": numbers(40, MELS), "decoder_input_ids": ids(9)},
        "sound both": {"input_values": numbers(SAMPLES), "decoder_input_ids": ids(9)},
        "spectrum": {"input_values": numbers(40, MELS)},
        "past": {"past_values": numbers(32, 1)},
        "series": {"past_values": numbers(32, 7)},
        "embeddings": {"inputs_embeds": numbers(LENGTH, 32)},
        "hidden": {"hidden_states": numbers(LENGTH, 32)},
        "boxes": {"input_ids": ids(), "bbox": torch.randint(0, 30, (batch, LENGTH, 4), generator=chance).sort(-1)[0]},
    }
    fitting = {name: inputs for name, inputs in kinds.items() if inputs.keys() <= takes.keys()}
    return dict(sorted(fitting.items(), key=lambda item: main not in item[1]))
