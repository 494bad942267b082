#include <algorithm>
#include <cmath>

#include "check.h"
#include "vivace/parallel.h"
#include "vivace/reference.h"
#include "vivace/rnn.h"

namespace vivace::tests {
namespace {

// What a layer computes with, and one tape.
struct Layer {
    RnnShape s;
    std::vector<double> x, w, u, b, r, h0, c0, dy, tape;
    std::vector<std::uint8_t> mask;

    Layer(const RnnShape& shape, bool masked) : s(shape) {
        const index gates = s.gates() * s.units, rows = s.batch * (s.sequences ? s.steps : 1);
        x = reals<double>(s.batch * s.steps * s.inputs), w = reals<double>(s.inputs * gates);
        u = reals<double>(s.units * gates), b = reals<double>(s.bias_rows() * gates);
        r = reals<double>(s.units * s.outputs), h0 = reals<double>(s.batch * s.units);
        c0 = reals<double>(s.has_memory() ? s.batch * s.units : 0), dy = reals<double>(rows * s.output_columns());
        tape.resize(static_cast<std::size_t>(s.tape_size()));
        for (index i = 0; masked && i < s.batch * s.steps; ++i) mask.push_back(rng() % 3 ? 1 : 0);
    }
    RnnInputs<double> inputs(const std::vector<std::vector<double>>& at) const {
        return {at[0].data(), at[1].data(), at[2].data(), at[3].data(), at[4].data(), mask.empty() ? nullptr : mask.data(),
                at[5].data(), s.has_memory() ? at[6].data() : nullptr, true, 7, 1, 2};
    }
};

// Every cell, with and without mask and dropout, at ragged sizes: made to run under sanitizers. The directional
// derivative of the loss along a random direction of all inputs must be what the gradients say.
void directional_derivative(const RnnShape& s, bool masked) {
    Layer layer(s, masked && s.cell != Cell::output_gated);
    const std::vector<std::vector<double>> start{layer.x, layer.w, layer.u, layer.b, layer.r, layer.h0, layer.c0};
    std::vector<std::vector<double>> direction;
    for (const auto& v : start) direction.push_back(reals<double>(static_cast<index>(v.size())));
    std::vector<double> y(layer.dy.size());
    const auto loss = [&](double step) {
        auto at = start;
        for (std::size_t i = 0; i < at.size(); ++i)
            for (std::size_t j = 0; j < at[i].size(); ++j) at[i][j] += step * direction[i][j];
        rnn_forward<double>(s, layer.inputs(at), layer.tape.data(), {y.data(), s.output_columns(), nullptr, nullptr});
        double sum = 0;
        for (std::size_t i = 0; i < y.size(); ++i) sum += y[i] * layer.dy[i];
        return sum;
    };
    const double step = 1e-6, expected = (loss(step) - loss(-step)) / (2 * step);
    loss(0);
    std::vector<std::vector<double>> gradients;
    for (const auto& v : start) gradients.emplace_back(v.size());
    rnn_backward<double>(s, layer.inputs(start), layer.tape.data(), y.data(),
                         {layer.dy.data(), s.output_columns(), gradients[0].data(), false, gradients[1].data(),
                          gradients[2].data(), gradients[3].data(), gradients[4].data(), gradients[5].data(),
                          s.has_memory() ? gradients[6].data() : nullptr});
    double got = 0;
    for (std::size_t i = 0; i < start.size(); ++i)
        for (std::size_t j = 0; j < direction[i].size(); ++j) got += direction[i][j] * gradients[i][j];
    CHECK(std::fabs(got - expected) <= 1e-5 * (1 + std::fabs(expected)));
}

// One sequence alone is run on every thread: at sizes where its units are shared out, the states are those of the loop,
// and without a tape too.
void equals_reference(Cell cell, index batch, index units, const Squash& activation) {
    RnnShape s{batch, 30, 3, units, cell, false};
    s.activation = activation;
    Layer layer(s, false);
    for (double& v : layer.u) v /= static_cast<double>(units);
    std::vector<double> expected(static_cast<std::size_t>(s.states_size())), y(expected.size());
    reference::rnn_forward(s, layer.x.data(), layer.w.data(), layer.u.data(), layer.b.data(), expected.data());
    const RnnInputs<double> in{layer.x.data(), layer.w.data(), layer.u.data(), layer.b.data(), nullptr, nullptr,
                               nullptr, nullptr, false, 0, 0, 0};
    const int before = get_num_threads();
    for (int threads : {1, 2, 3}) {
        set_num_threads(threads);
        rnn_forward<double>(s, in, threads == 2 ? nullptr : layer.tape.data(), {y.data(), units, nullptr, nullptr});
        double most = 0;
        for (std::size_t i = 0; i < y.size(); ++i) most = std::max(most, std::fabs(y[i] - expected[i]));
        CHECK(most < 1e-12);
    }
    set_num_threads(before);
}

}  // namespace

void test_rnn() {
    const Squash softsign{Activation::linear, true, Function::softsign, {}};
    for (Cell cell : {Cell::simple, Cell::lstm, Cell::gru, Cell::gru_reset_before})
        for (const Squash& activation : {Squash{Activation::tanh}, softsign})
            for (index batch : {1, 2, 3}) equals_reference(cell, batch, 203, activation);
    for (Cell cell : {Cell::simple, Cell::lstm, Cell::gru, Cell::gru_reset_before, Cell::output_gated})
        for (bool masked : {false, true})
            for (bool reverse : {false, true})
                for (bool sequences : {false, true})
                    for (double rate : {0.0, 0.5}) {
                        const index sizes[][4] = {{1, 1, 1, 1}, {3, 5, 4, 7}, {17, 4, 9, 19}};
                        for (const auto& n : sizes) {
                            RnnShape s{n[0], n[1], n[2], n[3], cell, reverse, {Activation::tanh}, {Activation::sigmoid}};
                            s.dropout = s.recurrent_dropout = rate;
                            s.sequences = sequences;
                            s.in_time = s.zero_masked = masked;
                            s.outputs = 3;
                            directional_derivative(s, masked);
                        }
                    }
}

}  // namespace vivace::tests
