"""Updates of adapters in coordinates in which their length is that of the change of the weights.

With A frozen a layer's weight changes by ``s dB A``. Let ``A A^T = L L^T`` (Cholesky) and
``Q = L^-1 A``, whose rows are orthonormal: ``s dB A = (s dB L) Q``, so that ``Y = s dB L`` has its
Frobenius norm, and independent noise on Y is independent noise of one size in every direction that
A has. A is known to all, and the way there and back is linear: whatever is private of Y is so of
``dB = Y L^-1 / s``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from fedcore.adapters.layers import layers_of
from fedcore.adapters.scaling import Scaling
from fedcore.tensors import Arrays
from fedcore.training.threads import one_blas_thread

# Below that, a row of A is the others' sum in float32: dB could be anything along it.
_LEAST = 1e-6


@dataclass(frozen=True)
class ProductCoordinates:
    """The way from updates to products and back; what is not among ``maps`` stays as it is.

    Attributes:
      maps: name of B -> (r, r) ``s L``, lower triangular, float64.
    """

    maps: Mapping[str, np.ndarray]

    def there(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Every change of a B as ``Y = s dB L``, (outputs, r)."""
        with one_blas_thread():
            return {
                name: value.astype(np.float64) @ self.maps[name] if name in self.maps else value
                for name, value in arrays.items()
            }

    def back(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Every ``Y`` as the change of a B, (outputs, r)."""
        with one_blas_thread():
            return {
                name: np.linalg.solve(self.maps[name].T, value.T).T if name in self.maps else value
                for name, value in arrays.items()
            }


def product_coordinates(
    params: Arrays, scaling: Scaling, trained: Collection[str]
) -> ProductCoordinates:
    """Those of the layers whose B is trained.

    Args:
      params: of the global model: its A stay.
      scaling: of the adapters.
      trained: names that clients train.

    Raises:
      ValueError: rows of an A depend on one another, e.g. more of them than inputs.
    """
    maps = {}
    for layer in layers_of(params):
        if layer.b not in trained:
            continue
        a = params[layer.a].astype(np.float64)
        with one_blas_thread():
            singular = np.linalg.svd(a, compute_uv=False)
            if len(a) > a.shape[1] or not singular[-1] > _LEAST * singular[0]:
                raise ValueError(
                    f"layer {layer.name!r}: its A, {a.shape[0]} rows of {a.shape[1]} inputs, has "
                    "rows that depend on one another, and a product then says nothing of B. Lower "
                    "model.adapter.rank, or set privacy.norm_of: update."
                )
            maps[layer.b] = scaling(len(a)) * np.linalg.cholesky(a @ a.T)
    return ProductCoordinates(maps)
