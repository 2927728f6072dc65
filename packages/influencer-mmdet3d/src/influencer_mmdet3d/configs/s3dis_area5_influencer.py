# OneFormer3D on S3DIS, Area 5 held out, trained without matching. Only the instance criterion differs from
# s3dis_area5_baseline.py.
_base_ = ["s3dis_area5_baseline.py"]

model = dict(
    criterion=dict(
        inst_criterion=dict(
            _delete_=True,  # else the host's `matcher` leaks in
            type="InfluencerCriterion",
            num_classes=13,
            loss_weight=[0.5, 1.0, 1.0, 0.5],
            non_object_weight=0.05,
        )
    )
)
