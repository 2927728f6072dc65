"""Conversations to token ids, (T,)."""

import torch


def tokenize_conversation(messages, tokenizer, add_generation_prompt=False, overrides=None, no_system_prompt=False):
    text = "".join(f"[{message['from']}]{message['value'].strip()}[end]" for message in messages)
    text += "[gpt]" if add_generation_prompt else ""
    return torch.tensor(tokenizer(text).input_ids)
