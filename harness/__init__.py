# SPDX-License-Identifier: GPL-2.0-only
"""Host side of fuse-lab: carry a patch series, boot the kernel it makes, check FUSE in it.

The pipeline is source -> series -> config -> build -> boot -> mount -> check -> report, one
module and one sub-command (`python -m harness STAGE`) for each.
"""
