#include <cmath>

#include "check.h"
#include "vivace/rnn.h"

namespace vivace::tests {
namespace {

// Every cell, with and without mask and initial state, at ragged sizes: made to run under sanitizers. The directional
// derivative of the loss along a random direction of all inputs must be what the gradients say.
void directional_derivative(Cell cell, index batch, index steps, index inputs, index units, bool masked, bool reverse) {
    const RnnShape s{batch, steps, inputs, units, cell, reverse};
    const index gates = s.gates() * units, states = batch * steps * units;
    const index bias_size = cell == Cell::gru ? 2 * gates : gates;
    const auto x = reals<double>(batch * steps * inputs), w = reals<double>(inputs * gates),
               u = reals<double>(units * gates), b = reals<double>(bias_size), h0 = reals<double>(batch * units),
               c0 = reals<double>(batch * units), dy = reals<double>(states);
    std::vector<std::uint8_t> mask;
    for (index i = 0; masked && i < batch * steps; ++i) mask.push_back(rng() % 3 ? 1 : 0);
    const std::uint8_t* valid = masked && cell != Cell::output_gated ? mask.data() : nullptr;
    std::vector<double> workspace(static_cast<std::size_t>(batch * steps * s.width() * units)), h(dy.size()), c(dy.size());
    double* memory = cell == Cell::lstm ? c.data() : nullptr;
    const std::vector<std::vector<double>> start{x, w, u, b, h0, c0};
    std::vector<std::vector<double>> direction;
    for (const auto& v : start) direction.push_back(reals<double>(static_cast<index>(v.size())));

    const auto loss = [&](double step) {
        auto at = start;
        for (std::size_t i = 0; i < at.size(); ++i)
            for (std::size_t j = 0; j < at[i].size(); ++j) at[i][j] += step * direction[i][j];
        rnn_forward<double>(s, at[0].data(), at[1].data(), at[2].data(), at[3].data(), valid,
                            {at[4].data(), memory ? at[5].data() : nullptr}, nullptr, workspace.data(), h.data(), memory);
        double sum = 0;
        for (index n = 0; n < batch; ++n)
            for (index t = 0; t < steps; ++t)
                for (index i = 0; i < units; ++i) {
                    const index row = n * steps + t, time = reverse ? steps - 1 - t : t;
                    const double y = cell == Cell::output_gated
                                         ? workspace[static_cast<std::size_t>((n * steps + time) * 2 * units + units + i)]
                                         : h[static_cast<std::size_t>(row * units + i)];
                    sum += y * dy[static_cast<std::size_t>(row * units + i)];
                }
        return sum;
    };
    const double step = 1e-6, expected = (loss(step) - loss(-step)) / (2 * step);
    loss(0);
    std::vector<double> dx(x.size()), dw(w.size()), du(u.size()), db(b.size()), dh(h0.size()), dc(c0.size());
    rnn_backward<double>(s, x.data(), w.data(), u.data(), valid, {h0.data(), memory ? c0.data() : nullptr}, nullptr,
                         workspace.data(), h.data(), memory, dy.data(),
                         {dx.data(), dw.data(), du.data(), db.data(), dh.data(), dc.data()});
    const std::vector<double>* gradients[] = {&dx, &dw, &du, &db, &dh, &dc};
    double got = 0;
    for (std::size_t i = 0; i < 6; ++i)
        for (std::size_t j = 0; j < direction[i].size(); ++j) got += direction[i][j] * (*gradients[i])[j];
    CHECK(std::fabs(got - expected) <= 1e-5 * (1 + std::fabs(expected)));
}

}  // namespace

void test_rnn() {
    for (Cell cell : {Cell::simple, Cell::lstm, Cell::gru, Cell::output_gated})
        for (bool masked : {false, true})
            for (bool reverse : {false, true}) {
                directional_derivative(cell, 1, 1, 1, 1, masked, reverse);
                directional_derivative(cell, 3, 5, 4, 7, masked, reverse);
                directional_derivative(cell, 17, 4, 9, 19, masked, reverse);
            }
}

}  // namespace vivace::tests
