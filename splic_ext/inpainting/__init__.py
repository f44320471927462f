"""Holes in pictures filled: a smooth surface first, then one pass of completion.

>>> import numpy as np
>>> from splic_ext.inpainting import inpaint
>>> hole = np.zeros((8, 8), bool)
>>> hole[3:5, 2:6] = True
>>> inpaint(np.full((8, 8), 100, np.uint8), ~hole)[hole]
array([100, 100, 100, 100, 100, 100, 100, 100], dtype=uint8)
"""

from splic_ext.inpainting.picture import inpaint

__all__ = ["inpaint"]
