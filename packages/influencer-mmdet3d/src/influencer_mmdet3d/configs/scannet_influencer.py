# OneFormer3D on ScanNet, trained without matching. Queries are superpoints: the host says in `query_masks` which lie
# inside which instance, and the criterion lets an instance be influenced by these alone. That needs no option.
_base_ = ["scannet_baseline.py"]

model = dict(
    criterion=dict(
        inst_criterion=dict(
            _delete_=True,  # else the host's `matcher` leaks in
            type="InfluencerCriterion",
            num_classes=18,
            loss_weight=[0.5, 1.0, 1.0, 0.5],
            non_object_weight=0.1,
        )
    )
)
