"""Results of a training in the layout of nnU-Net."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

PLAIN = {
    "n_stages": 3, "features_per_stage": [4, 8, 8], "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]], "n_conv_per_stage": [1, 1, 1],
    "n_conv_per_stage_decoder": [1, 1], "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-05, "affine": True}, "dropout_op": None,
    "dropout_op_kwargs": None, "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True},
}  # fmt: skip
SEEN = {"max": 300.0, "mean": 60.0, "median": 60.0, "min": -100.0, "percentile_00_5": -80.0,
        "percentile_99_5": 250.0, "std": 50.0}  # fmt: skip
SPACING, PATCH = [4.0, 1.5, 1.0], [8, 24, 32]  # by nnU-Net's axes: of the file, z, y and x


def network_of(arguments, channels=1, classes=3, name="PlainConvUNet"):
    """The network of a plan, by nnU-Net's package of networks."""
    from dynamic_network_architectures.architectures import unet

    operations = {"conv_op": torch.nn.Conv3d, "norm_op": torch.nn.InstanceNorm3d,
                  "nonlin": torch.nn.LeakyReLU}  # fmt: skip
    return getattr(unet, name)(channels, num_classes=classes, **{**arguments, **operations},
                               deep_supervision=True)  # fmt: skip


def results(
    folder: Path, folds=(0,), scheme="CTNormalization", masked=False, channels=("CT",),
    name="PlainConvUNet", arguments=PLAIN, transpose=(0, 1, 2), dataset=None, plans=None,
    checkpoint=None, **changes,
) -> Path:
    """As `nnUNetTrainer.save_checkpoint` and the planner write them."""
    count = len(channels)
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres", "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2, "patch_size": PATCH, "median_image_size_in_voxels": [9.0, 30.0, 40.0],
        "spacing": SPACING, "normalization_schemes": [scheme] * count,
        "use_mask_for_norm": [masked] * count,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0,
                                      "force_separate_z": None},
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0,
                                     "force_separate_z": None},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0,
                                               "force_separate_z": None},
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{name}",
            "arch_kwargs": arguments,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": True,
    } | changes  # fmt: skip
    inverse = [transpose.index(a) for a in range(3)]
    written = {
        "dataset_name": "Dataset003_Liver", "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": SPACING,
        "original_median_shape_after_transp": [9, 30, 40],
        "image_reader_writer": "SimpleITKIO", "transpose_forward": list(transpose),
        "transpose_backward": inverse, "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(n): SEEN for n in range(count)},
        "configurations": {"3d_fullres": configuration,
                           "child": {"inherits_from": "3d_fullres", "batch_size": 4}},
    } | (plans or {})  # fmt: skip
    described = {
        "channel_names": {str(n): c for n, c in enumerate(channels)},
        "labels": {"background": 0, "liver": 1, "tumor": 2}, "numTraining": 131,
        "file_ending": ".nii.gz", "licence": "CC-BY-SA 4.0",
    } | (dataset or {})  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(written))
    (folder / "dataset.json").write_text(json.dumps(described))
    for fold in folds:
        torch.manual_seed(10 + (fold if isinstance(fold, int) else 9))
        network = network_of(arguments, count, name=name)
        (folder / f"fold_{fold}").mkdir()
        content = {
            "network_weights": network.state_dict(),
            "optimizer_state": torch.optim.SGD(network.parameters(), 0.01).state_dict(),
            "grad_scaler_state": None, "_best_ema": np.float64(0.8), "current_epoch": 1000,
            "logging": {"ema_fg_dice": [np.float32(0.7), np.float64(0.8)], "lrs": [0.01]},
            "init_args": {"plans": written, "configuration": "3d_fullres", "fold": fold,
                          "dataset_json": described, "device": torch.device("cpu")},
            "trainer_name": "nnUNetTrainer", "inference_allowed_mirroring_axes": (0, 2),
        } | (checkpoint or {})  # fmt: skip
        torch.save(content, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder
