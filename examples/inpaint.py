"""Fill a hole of a photograph, and say how far it is off, beside OpenCV where that is there."""

import numpy as np

import splic_ext
from splic_ext.data.photos import load_photos

photo = np.uint8(np.rint(255 * load_photos(192)[0]))  # (192, 192, 3)
visible = np.ones(photo.shape[:2], bool)
visible[60:84, 40:72] = False  # a box that is to go; True is visible, as everywhere
for k in range(0, 180, 3):
    visible[k : k + 3, k : k + 3] = False  # a scratch


def error(filled):
    """RMSE of the hidden pixels, of 255."""
    return np.sqrt(np.square(filled.astype(float) - photo)[~visible].mean())


filled = splic_ext.inpaint(photo, visible, channel_axis=-1)
assert np.array_equal(filled[visible], photo[visible])
print(f"{(~visible).sum()} pixels hidden")
print(f"{'splic_ext.inpaint':<20} RMSE {error(filled):.1f}")
try:
    import cv2
except ImportError:
    print("OpenCV is not installed")
else:
    hidden = np.uint8(255 * ~visible)
    for text, method in (("Telea", cv2.INPAINT_TELEA), ("Navier-Stokes", cv2.INPAINT_NS)):
        print(f"{text:<20} RMSE {error(cv2.inpaint(photo, hidden, 3, method)):.1f}")
