# The demo's training with the influencer criterion; rooms_hungarian.py changes the criterion only.
# data_root, work_dir and the lengths are set by `influencer-mmdet3d demo`.
custom_imports = {
    "imports": [
        "influencer_mmdet3d",
        "influencer_mmdet3d.demo.dataset",
        "influencer_mmdet3d.demo.hooks",
        "influencer_mmdet3d.demo.hungarian",
        "influencer_mmdet3d.demo.metric",
        "influencer_mmdet3d.demo.segmentor",
    ],
    "allow_failed_imports": False,
}

classes = [
    "ceiling", "floor", "wall", "beam", "column", "window", "door",
    "table", "chair", "sofa", "bookcase", "board", "clutter",
]  # fmt: skip
data_root = "rooms"
max_iters = 450
batch_size = 2
seed = 0

model = {
    "type": "DemoSegmentor",
    "num_classes": len(classes),
    "start_masks": True,
    "encoder": {"width": 24, "voxel": 0.2},
    "decoder": {"num_queries": 96, "width": 64, "num_layers": 3, "heads": 4},
    "criterion": {
        "type": "InfluencerCriterion",
        "num_classes": len(classes),
        "loss_weight": [0.5, 2.0, 2.0, 0.5],
        "non_object_weight": 0.05,
    },
    "test": {"min_points": 20},
}

train_dataloader = {
    "batch_size": batch_size,
    "num_workers": 0,
    "sampler": {"type": "DefaultSampler", "shuffle": False},
    "collate_fn": {"type": "demo_collate"},
    "dataset": {
        "type": "DemoRoomDataset",
        "root": data_root,
        "areas": [1],
        "num_points": 2048,
        "length": max_iters * batch_size,
        "seed": seed,
    },
}
val_dataloader = {
    "batch_size": 1,
    "num_workers": 0,
    "sampler": {"type": "DefaultSampler", "shuffle": False},
    "collate_fn": {"type": "demo_collate"},
    "dataset": {"type": "DemoRoomDataset", "root": data_root, "areas": [5]},
}
test_dataloader = val_dataloader
val_evaluator = {"type": "DemoInstanceMetric", "classes": classes, "min_points": 50}
test_evaluator = val_evaluator

train_cfg = {"type": "IterBasedTrainLoop", "max_iters": max_iters, "val_interval": max_iters // 5}
val_cfg = {"type": "ValLoop"}
test_cfg = {"type": "TestLoop"}
optim_wrapper = {
    "type": "OptimWrapper",
    "optimizer": {"type": "AdamW", "lr": 2e-3, "weight_decay": 0.05},
    "clip_grad": {"max_norm": 5, "norm_type": 2},
}
param_scheduler = [
    {"type": "LinearLR", "start_factor": 0.1, "begin": 0, "end": 30, "by_epoch": False},
    {"type": "PolyLR", "power": 0.9, "begin": 30, "end": max_iters, "by_epoch": False},
]
custom_hooks = [{"type": "DemoProgressHook"}]
default_hooks = {"checkpoint": None, "logger": {"type": "LoggerHook", "interval": 10}}
randomness = {"seed": seed}
log_level = "WARNING"
