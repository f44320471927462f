// An eigensolver in the place of cuSOLVER: simple, and exact to rounding.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

// Eigenvalues, rising, of a symmetric matrix; it becomes the eigenvectors, in rows (Jacobi).
inline void eigen_by_jacobi(int n, double *a, double *values) {
  std::vector<double> c(a, a + n * n), q(std::size_t(n) * n);
  for (int i = 0; i < n; ++i)
    q[std::size_t(i * n + i)] = 1;
  const auto turn = [](double cs, double sn, double &x, double &y) {
    const double before = x;
    x = cs * before - sn * y;
    y = sn * before + cs * y;
  };
  for (int sweep = 0; sweep < 30; ++sweep) {
    bool again = false;
    for (int i = 0; i < n; ++i)
      for (int j = i + 1; j < n; ++j) {
        const double cij = c[i * n + j], size = std::sqrt(std::abs(c[i * n + i] * c[j * n + j]));
        if (std::abs(cij) <= 1e-16 * size || cij == 0)
          continue;
        again = true;
        const double theta = (c[j * n + j] - c[i * n + i]) / (2 * cij);
        const double t = (theta < 0 ? -1 : 1) / (std::abs(theta) + std::sqrt(theta * theta + 1));
        const double cs = 1 / std::sqrt(t * t + 1), sn = t * cs;
        for (int l = 0; l < n; ++l)
          turn(cs, sn, c[i * n + l], c[j * n + l]);
        for (int l = 0; l < n; ++l)
          turn(cs, sn, c[l * n + i], c[l * n + j]);
        for (int l = 0; l < n; ++l)
          turn(cs, sn, q[i * n + l], q[j * n + l]);
      }
    if (!again)
      break;
  }
  std::vector<int> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int i, int j) { return c[i * n + i] < c[j * n + j]; });
  for (int i = 0; i < n; ++i) {
    values[i] = c[order[i] * n + order[i]];
    std::copy_n(&q[order[i] * n], n, a + i * n);
  }
}
