_base_ = ["rooms_influencer.py"]

model = {
    "criterion": {
        "_delete_": True,
        "type": "DemoHungarianCriterion",
        "num_classes": 13,
        "loss_weight": [0.5, 2.0, 2.0, 0.5],
        "non_object_weight": 0.05,
    },
}
