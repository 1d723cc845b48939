"""Maps and vector fields whose dynamics are known by hand: the ground truth for every analysis.

Parameters are numbers or tensors `(*batch)` that broadcast against the leading axes of the states, one a row.
So a whole parameter sweep is one batch: `Logistic(torch.linspace(2.8, 4, 500)[:, None])` maps states
`(500, sample, 1)`, each row by its own map. What is observed is the state.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _parameter(value: float | Tensor) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64)


class _Map:
    """A map that shows its state."""

    def observe(self, x: Tensor) -> Tensor:
        return x


class Linear(_Map):
    """x' = A x, with `A` of shape `(*batch, state, state)`.

    Truth: the origin is a fixed point, the only one if 1 is no eigenvalue; after t steps x = A^t x0; the
    Lyapunov exponents are ln |eig A|.

    Example:
        >>> Linear(torch.diag(torch.tensor([0.5, 2.0]))).step(torch.ones(3, 2).double())[0]
        tensor([0.5000, 2.0000], dtype=torch.float64)
    """

    def __init__(self, A: Tensor) -> None:
        self.A = _parameter(A)
        if self.A.ndim < 2 or self.A.shape[-1] != self.A.shape[-2]:
            raise ValueError(
                f"A of shape {tuple(self.A.shape)} is not possible: give (*batch, state, state)."
            )

    def step(self, x: Tensor) -> Tensor:
        return (self.A @ x.unsqueeze(-1)).squeeze(-1)

    def push(self, x: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        return self.step(x), self.A @ frame


class Logistic(_Map):
    """x' = r x (1 - x) on [0, 1]; one state component.

    Truth: fixed points 0 and 1 - 1/r, with multipliers r and 2 - r. Period doublings at r = 3 and 1 + sqrt 6
    (accumulating at 3.569946), a window of period 3 from 1 + sqrt 8 on. The points of period 2 are
    (r + 1 +- sqrt((r - 3)(r + 1))) / 2r, with multiplier 4 + 2r - r^2. At r = 4 it is conjugate to the tent
    map: Lyapunov exponent ln 2.
    """

    def __init__(self, r: float | Tensor) -> None:
        self.r = _parameter(r)

    def step(self, x: Tensor) -> Tensor:
        return self.r.unsqueeze(-1) * x * (1 - x)


class Henon(_Map):
    """x' = 1 - a x^2 + y, y' = b x (Henon 1976); two state components.

    Truth: fixed points x = (-(1 - b) +- sqrt((1 - b)^2 + 4a)) / 2a, y = b x. det J = -b everywhere, so the
    exponents add up to ln |b|. Saddle-node at a = -(1 - b)^2 / 4, period doubling at a = 3 (1 - b)^2 / 4. At
    a = 1.4, b = 0.3 the exponents are 0.41922 and -1.62319.
    """

    def __init__(self, a: float | Tensor = 1.4, b: float | Tensor = 0.3) -> None:
        self.a, self.b = _parameter(a), _parameter(b)

    def step(self, x: Tensor) -> Tensor:
        first, second = x.unbind(-1)
        return torch.stack((1 - self.a * first * first + second, self.b * first), -1)


class CatMap(_Map):
    """x' = 2x + y, y' = x + y, both modulo 1 (Arnold's cat); two state components in [0, 1).

    Truth: exponents +-ln((3 + sqrt 5) / 2) = +-0.962424 everywhere; area is kept; the only fixed point is
    the origin.
    """

    def step(self, x: Tensor) -> Tensor:
        first, second = x.unbind(-1)
        return torch.stack((2 * first + second, first + second), -1) % 1


class TanhMap(_Map):
    """x' = tanh(w x + b), the network of one unit; `w` and `b` act on each state component alike.

    Truth, at b = 0: a supercritical pitchfork at w = 1, beyond which two stable points +-x* lie on either
    side of the unstable 0; a period doubling at w = -1; |w| is the Lipschitz constant.
    """

    def __init__(self, w: float | Tensor, b: float | Tensor = 0.0) -> None:
        self.w, self.b = _parameter(w), _parameter(b)

    def step(self, x: Tensor) -> Tensor:
        return torch.tanh(self.w.unsqueeze(-1) * x + self.b.unsqueeze(-1))


class NeimarkSacker(_Map):
    """z' = e^(i omega) z (1 + mu - |z|^2) in the plane: a circle is born from a fixed point at mu = 0.

    Truth: for 0 < mu < 1 the circle of radius sqrt(mu) attracts everything nearby but the origin, with
    exponents 0 and ln |1 - 2 mu|, and is turned by omega at each step: the rotation number is omega / 2 pi,
    so an orbit on it is periodic only where that is rational. For -1 < mu <= 0 the origin is stable.
    """

    def __init__(self, mu: float | Tensor, omega: float | Tensor) -> None:
        self.mu, self.omega = _parameter(mu), _parameter(omega)

    def step(self, x: Tensor) -> Tensor:
        first, second = x.unbind(-1)
        gain = 1 + self.mu - first * first - second * second
        cos, sin = self.omega.cos(), self.omega.sin()
        return torch.stack((gain * (cos * first - sin * second), gain * (sin * first + cos * second)), -1)


class DelayedLogistic(_Map):
    """x' = r x (1 - y), y' = x: growth limited by the generation before (Maynard Smith 1968).

    Truth: fixed points 0 and x = y = 1 - 1/r; the second has eigenvalues on the unit circle, e^(+-i pi/3), at
    r = 2: a supercritical Neimark-Sacker bifurcation, past which a circle attracts.
    """

    def __init__(self, r: float | Tensor) -> None:
        self.r = _parameter(r)

    def step(self, x: Tensor) -> Tensor:
        first, second = x.unbind(-1)
        return torch.stack((self.r * first * (1 - second), first), -1)


class CubeRoots(_Map):
    """Newton's method for z^3 = 1 in the complex plane, z' = z - (z^3 - 1) / 3 z^2, as a map of (Re z, Im z).

    Truth: the three roots 1, e^(+-2 pi i / 3) are superstable (both multipliers 0). A rotation by a third
    of a turn maps the dynamics to themselves, so that on a disc around 0 each basin has the fraction 1/3.
    """

    def step(self, x: Tensor) -> Tensor:
        p, q = x.unbind(-1)
        square = p * p + q * q
        # 1 / z^2 = conj(z)^2 / |z|^4
        return torch.stack(
            (2 * p / 3 + (p * p - q * q) / (3 * square**2), 2 * q / 3 - 2 * p * q / (3 * square**2)), -1
        )


class _Field:
    """A vector field that shows its state."""

    def observe(self, x: Tensor) -> Tensor:
        return x


class Lorenz(_Field):
    """dx/dt = sigma (y - x), dy/dt = x (rho - z) - y, dz/dt = x y - beta z (Lorenz 1963).

    Truth: the divergence is -(sigma + 1 + beta) everywhere, the sum of the exponents; one of them is 0.
    Equilibria 0 and, for rho > 1, (+-s, +-s, rho - 1) with s^2 = beta (rho - 1). At sigma = 10, rho = 28,
    beta = 8/3 the exponents are 0.9056, 0, -14.5723 per unit time (Sprott 2003).
    """

    def __init__(
        self, sigma: float | Tensor = 10.0, rho: float | Tensor = 28.0, beta: float | Tensor = 8 / 3
    ) -> None:
        self.sigma, self.rho, self.beta = _parameter(sigma), _parameter(rho), _parameter(beta)

    def velocity(self, x: Tensor) -> Tensor:
        first, second, third = x.unbind(-1)
        return torch.stack(
            (
                self.sigma * (second - first),
                first * (self.rho - third) - second,
                first * second - self.beta * third,
            ),
            -1,
        )


class Hopf(_Field):
    """dz/dt = (mu + i omega) z - |z|^2 z in the plane: a limit cycle is born from an equilibrium at mu = 0.

    Truth: for mu > 0 the circle of radius sqrt(mu) attracts everything but the origin; its period is
    2 pi / omega, its Floquet multipliers are 1 and e^(-4 pi mu / omega), its exponents 0 and -2 mu. The
    origin has eigenvalues mu +- i omega. The bifurcation is supercritical.
    """

    def __init__(self, mu: float | Tensor, omega: float | Tensor) -> None:
        self.mu, self.omega = _parameter(mu), _parameter(omega)

    def velocity(self, x: Tensor) -> Tensor:
        first, second = x.unbind(-1)
        growth = self.mu - first * first - second * second
        return torch.stack((growth * first - self.omega * second, growth * second + self.omega * first), -1)
