"""flash-attn is imported whether or not the tower is used."""

from flash_attn.bert_padding import pad_input


class FlashAttention:
    pad = pad_input
