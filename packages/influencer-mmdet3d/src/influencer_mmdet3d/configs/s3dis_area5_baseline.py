# OneFormer3D on S3DIS, Area 5 held out, with the host's own Hungarian criterion: the number to compare with.
# Needs ONEFORMER3D_ROOT, an absolute path. The colon in {{$ONEFORMER3D_ROOT:}} is part of mmengine's syntax.
_base_ = ["{{$ONEFORMER3D_ROOT:}}/configs/oneformer3d_1xb2_s3dis-area-5.py"]

# custom_imports is replaced, not merged: repeat the host's own. Here it also brings the package's name into the log.
custom_imports = dict(imports=["oneformer3d", "influencer_mmdet3d"], allow_failed_imports=False)

# The host keeps one checkpoint and removes it before it writes the next: a kill in between would lose both.
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2))
