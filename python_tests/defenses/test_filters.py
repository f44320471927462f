"""The deterministic defences against scikit-image, SciPy and the published formulas."""

from __future__ import annotations

import io

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
defenses = pytest.importorskip("splic_ext.defenses")


@pytest.fixture(scope="module")
def images():
    """Edges, a ramp and noise; two images of three channels, float64."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:24, :20]
    pattern = 0.25 * (x > 8) + 0.25 * (y > 15) + x / 80
    values = pattern + rng.normal(0.2, 0.08, (2, 3, 24, 20))
    return torch.from_numpy(values.clip(0, 1))


def planes(images, function):
    """Apply a function of one plane to each channel of each image."""
    flat = images.numpy().reshape(-1, *images.shape[2:])
    return np.stack([function(plane) for plane in flat]).reshape(images.shape)


def difference(result, expected):
    return np.abs(result.double().numpy() - expected).max()


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_bit_depth(images, bits):
    levels = np.linspace(0, 1, 2**bits)
    nearest = levels[np.abs(images.numpy()[..., None] - levels).argmin(-1)]
    assert difference(defenses.BitDepth(bits)(images), nearest) < 1e-12


@pytest.mark.parametrize("quality", [10, 75, 95])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg(images, quality, channels):
    image_module = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    pixels = np.rint(255 * images[0, :channels].numpy()).astype(np.uint8)
    picture = image_module.fromarray(pixels[0] if channels == 1 else np.moveaxis(pixels, 0, -1))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    expected = np.asarray(image_module.open(file)) / 255
    result = defenses.JPEG(quality)(images[:, :channels])[0].permute(1, 2, 0)
    assert difference(result, expected.reshape(result.shape)) < 1e-12


def test_jpeg_of_two_channels(images):
    pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    with pytest.raises(ValueError, match="`images` must have 1 or 3 channels for JPEG, got 2"):
        defenses.JPEG()(images[:, :2])


@pytest.mark.parametrize("sigma", [0.1, 0.7, 3.0])
def test_gaussian(images, sigma):
    ndimage = pytest.importorskip("scipy.ndimage", reason="SciPy is not installed")
    expected = planes(images, lambda plane: ndimage.gaussian_filter(plane, sigma, mode="nearest"))
    assert difference(defenses.GaussianBlur(sigma)(images), expected) < 1e-12
    assert difference(defenses.GaussianBlur(sigma)(images.float()), expected) < 2e-6


@pytest.mark.parametrize("weight", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("iterations", [1, 2, 60])
def test_total_variation_step_by_step(images, weight, iterations):
    """scikit-image does the same steps, but leaves the last one out of the result."""
    restoration = pytest.importorskip("skimage.restoration")
    expected = np.stack(
        [
            restoration.denoise_tv_chambolle(
                image, weight, eps=0, max_num_iter=iterations + 1, channel_axis=0
            )
            for image in images.numpy()
        ]
    )
    defense = defenses.TotalVariation(weight, iterations)
    assert difference(defense(images), expected.clip(0, 1)) < 1e-12
    assert difference(defense(images.float()), expected.clip(0, 1)) < 2e-6


def total_variation(values):
    down = np.diff(values, axis=-2, append=values[..., -1:, :])
    right = np.diff(values, axis=-1, append=values[..., -1:])
    return np.hypot(down, right).sum((-2, -1))


@pytest.mark.parametrize("weight", [0.02, 0.1, 0.3])
def test_total_variation_by_default(images, weight):
    """By default scikit-image stops early; 50 steps lower what is minimised further."""
    restoration = pytest.importorskip("skimage.restoration")

    def objective(values):
        squares = ((values - images.numpy()) ** 2).sum((-2, -1))
        return squares / 2 + weight * total_variation(values)

    other = planes(images, lambda plane: restoration.denoise_tv_chambolle(plane, weight))
    result = defenses.TotalVariation(weight)(images).numpy()
    assert (objective(result) < objective(other)).all()
    assert np.abs(result - other).mean() < 0.02


def test_total_variation_minimises(images):
    """At the minimum u, the inner product of x - u and u is w TV(u)."""
    source = images[:1, :1]
    for iterations, bound in ((2000, 2e-3), (8000, 5e-4)):
        result = defenses.TotalVariation(0.1, iterations)(source).numpy()
        weighted = 0.1 * total_variation(result).item()
        assert abs(((source.numpy() - result) * result).sum() - weighted) < bound * weighted


def bilateral(image, sigma_color, sigma_spatial, window):
    """Pixel by pixel, as the formula says."""
    _, height, width = image.shape
    reach = window // 2
    result = np.empty_like(image)
    for i in range(height):
        for j in range(width):
            total, weights = 0.0, 0.0
            for k in range(i - reach, i + reach + 1):
                for m in range(j - reach, j + reach + 1):
                    near = image[:, min(max(k, 0), height - 1), min(max(m, 0), width - 1)]
                    space = ((k - i) ** 2 + (m - j) ** 2) / (2 * sigma_spatial**2)
                    color = ((near - image[:, i, j]) ** 2).sum() / (2 * sigma_color**2)
                    weight = np.exp(-space - color)
                    total, weights = total + weight * near, weights + weight
            result[:, i, j] = total / weights
    return result


@pytest.mark.parametrize(("color", "spatial", "window"), [(0.1, 2.0, 5), (0.3, 0.8, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_bilateral(images, color, spatial, window, channels):
    expected = np.stack(
        [bilateral(i, color, spatial, window) for i in images[:, :channels].numpy()]
    )
    defense = defenses.Bilateral(color, spatial, window)
    assert difference(defense(images[:, :channels]), expected) < 1e-12
    assert difference(defense(images[:, :channels].float()), expected) < 2e-6


def spatial_weights(window, sigma, *, dtype=float):
    distance = np.arange(window) - window // 2
    weights = np.exp(-(distance[:, None] ** 2 + distance**2) / (2 * sigma**2))
    return weights.astype(dtype).ravel()


@pytest.mark.parametrize(("spatial", "own_weights"), [(1000.0, True), (1.5, False)])
def test_bilateral_as_scikit_image(images, monkeypatch, spatial, own_weights):
    """On gray images; the colour weights of scikit-image come from a table of `bins` entries.

    The table of its spatial weights has one row and one column too many for an odd window (0.25
    and 0.26), and is read as if it had not; with a large sigma all its entries are 1, otherwise
    the test puts the right one in its place.
    """
    restoration = pytest.importorskip("skimage.restoration")
    if not own_weights:
        module = pytest.importorskip("skimage.restoration._denoise")
        monkeypatch.setattr(module, "_compute_spatial_lut", spatial_weights)
    expected = planes(
        images,
        lambda plane: restoration.denoise_bilateral(
            plane, win_size=5, sigma_color=0.1, sigma_spatial=spatial, bins=10**6, mode="edge"
        ),
    )
    flat = images.reshape(6, 1, *images.shape[2:])
    result = defenses.Bilateral(0.1, spatial, 5)(flat).reshape(images.shape)
    assert difference(result, expected) < 1e-5


def guided(guide, plane, radius, eps):
    """Window by window (He et al. 2013, equations 5, 6 and 8)."""
    height, width = plane.shape

    def windows():
        for i in range(height):
            for j in range(width):
                yield (
                    (i, j),
                    np.s_[max(i - radius, 0) : i + radius + 1, max(j - radius, 0) : j + radius + 1],
                )

    slope, offset, result = (np.empty_like(plane) for _ in range(3))
    for centre, window in windows():
        i, p = guide[window], plane[window]
        slope[centre] = (np.mean(i * p) - i.mean() * p.mean()) / (i.var() + eps)
        offset[centre] = p.mean() - slope[centre] * i.mean()
    for centre, window in windows():
        result[centre] = slope[window].mean() * guide[centre] + offset[window].mean()
    return result.clip(0, 1)


@pytest.mark.parametrize(("radius", "eps"), [(1, 1e-4), (2, 0.01), (30, 0.1)])
@pytest.mark.parametrize("guide", ["gray", "self"])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_guided(images, radius, eps, guide, channels):
    source = images[:, :channels].numpy()
    weights = np.array([0.299, 0.587, 0.114]) if channels == 3 else np.full(channels, 1 / channels)
    expected = np.empty_like(source)
    for i, image in enumerate(source):
        gray = np.tensordot(weights, image, 1)
        for c, plane in enumerate(image):
            expected[i, c] = guided(gray if guide == "gray" else plane, plane, radius, eps)
    defense = defenses.GuidedFilter(radius, eps, guide)
    assert difference(defense(images[:, :channels]), expected) < 1e-12
    assert difference(defense(images[:, :channels].float()), expected) < 5e-6


def test_filters_against_noise(images, smooth):
    """Each filter brings a noisy smooth image nearer to the clean one."""
    clean = torch.from_numpy(smooth((2, 3, 24, 20)))
    noisy = (
        clean + 0.05 * torch.from_numpy(np.random.default_rng(3).normal(size=clean.shape))
    ).clip(0, 1)
    before = (noisy - clean).square().mean()
    for defense in (
        defenses.GaussianBlur(1),
        defenses.TotalVariation(0.05),
        defenses.Bilateral(0.2),
        defenses.GuidedFilter(),
    ):
        assert (defense(noisy) - clean).square().mean() < 0.5 * before, defense


@pytest.mark.parametrize(
    ("name", "parameter", "least", "most"),
    [
        ("GaussianBlur", "sigma", 1e-6, 100),
        ("TotalVariation", "weight", 1e-6, 1e6),
        ("Bilateral", "sigma_color", 1e-6, 1e6),
        ("Bilateral", "sigma_spatial", 1e-6, 1e6),
        ("GuidedFilter", "eps", 1e-6, 1e6),
        ("NuclearNorm", "weight", 0, 1e6),
    ],
)
def test_bounds(images, name, parameter, least, most):
    """At the bounds all is finite in float32, also where an image is flat; beyond is refused."""
    kind = getattr(defenses, name)
    refused = [2 * most, 1e300, *([least / 2, 1e-40, 1e-320, 0.0] if least else [])]
    for value in refused:
        with pytest.raises(ValueError, match=f"`{parameter}` must be finite and in .*, got "):
            kind(**{parameter: value})
    batch = torch.cat([images.float(), torch.full((1, 3, 24, 20), 0.3), images[:1].round().float()])
    for value in (least, most):
        leaf = batch.clone().requires_grad_()
        result = kind(**{parameter: value}, gradient="exact")(leaf)
        assert result.isfinite().all()
        result.sum().backward()
        assert leaf.grad.isfinite().all()
