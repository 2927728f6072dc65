"""Batches: media are flattened, token and media counts are not compared."""

from torch.nn.utils.rnn import pad_sequence


class DataCollator:
    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def __call__(self, instances):
        limit = self.tokenizer.model_max_length
        ids = pad_sequence([i["input_ids"] for i in instances], True, self.tokenizer.pad_token_id)[:, :limit]
        labels = pad_sequence([i["labels"] for i in instances], True, -100)[:, :limit]
        media = {
            name: [tensor for i in instances if i.get(name) is not None for tensor in i[name]]
            for name in self.tokenizer.media_tokens
        }
        return {
            "input_ids": ids,
            "labels": labels,
            "media": media,
            "attention_mask": ids != self.tokenizer.pad_token_id,
        }
