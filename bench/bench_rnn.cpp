// Recurrent layers: a whole sequence in one call ("fused") beside one call per time step ("step_by_step"), which is how a
// framework without a fused layer runs them: the input product in small pieces, weights packed again at every step.
#include <algorithm>

#include "bench.h"
#include "vivace/reference.h"
#include "vivace/rnn.h"

namespace vivace::bench {
namespace {

struct Layer {
    RnnShape whole, step;
    index gates;  // columns of W and U
    Floats x, w, u, b, dh;  // x: time first, (steps, batch, inputs)
    bool memory() const { return whole.has_memory(); }
};

// Buffers of one run, and what it leaves behind. A step's tape is a whole one of one step.
struct Run {
    Floats tape, h, c, dw, du, db, dh, dc;
    explicit Run(const Layer& l)
        : tape(static_cast<std::size_t>(l.whole.tape_size())), h(static_cast<std::size_t>(l.whole.states_size())),
          c(h.size()), dw(l.w.size()), du(l.u.size()), db(l.b.size()), dh(l.dh), dc(l.dh.size()) {}

    RnnGradients<float> gradients(const Layer& l) {
        return {nullptr,   l.whole.units, nullptr, false, dw.data(), du.data(),
                db.data(), nullptr,       dh.data(), l.memory() ? dc.data() : nullptr};
    }
    void start(const Layer& l) {
        for (Floats* gradient : {&dw, &du, &db, &dc}) std::fill(gradient->begin(), gradient->end(), 0.0f);
        dh = l.dh;
    }
};

RnnInputs<float> inputs_of(const Layer& l, const float* x, const float* h, const float* c) {
    return {x, l.w.data(), l.u.data(), l.b.data(), nullptr, nullptr, h, c, false, 0, 0, 0};
}

void fused(const Layer& l, Run& r, const Floats& x, bool training) {
    const RnnInputs<float> in = inputs_of(l, x.data(), nullptr, nullptr);
    rnn_forward<float>(l.whole, in, training ? r.tape.data() : nullptr, {r.h.data(), l.whole.units, nullptr, nullptr});
    if (!training) return;
    r.start(l);
    rnn_backward<float>(l.whole, in, r.tape.data(), r.h.data(), r.gradients(l));
}

void step_by_step(const Layer& l, Run& r, bool training) {
    const RnnShape& s = l.step;
    const index states = s.states_size();
    const auto in = [&](index t) {
        return inputs_of(l, l.x.data() + t * s.batch * s.inputs, t ? r.h.data() + (t - 1) * states : nullptr,
                         t && l.memory() ? r.c.data() + (t - 1) * states : nullptr);
    };
    const auto tape = [&](index t) { return r.tape.data() + t * s.tape_size(); };
    for (index t = 0; t < l.whole.steps; ++t)
        rnn_forward<float>(s, in(t), training ? tape(t) : nullptr,
                           {r.h.data() + t * states, s.units, nullptr, l.memory() ? r.c.data() + t * states : nullptr});
    if (!training) return;
    r.start(l);
    for (index t = l.whole.steps - 1; t >= 0; --t)
        rnn_backward<float>(s, in(t), tape(t), r.h.data() + t * states, r.gradients(l));
}

void add_layer(const char* name, Cell cell, index batch, index units) {
    constexpr index steps = 100, inputs = 64;
    Layer l{{batch, steps, inputs, units, cell, false}, {batch, 1, inputs, units, cell, false}, 0, {}, {}, {}, {}, {}};
    l.gates = l.whole.gates() * units;
    l.x = random_floats(steps * batch * inputs, 1);
    l.w = random_floats(inputs * l.gates, 2);
    l.u = random_floats(units * l.gates, 3);
    l.b = random_floats((cell == Cell::gru ? 2 : 1) * l.gates, 4);
    l.dh = random_floats(batch * units, 5);
    for (float& v : l.w) v *= 0.1f;  // as small as trained weights: errors must not grow from step to step
    for (float& v : l.u) v *= 1 / static_cast<float>(units);
    Floats x(l.x.size());  // (batch, steps, inputs)
    for (index t = 0; t < steps; ++t)
        for (index b = 0; b < batch; ++b)
            std::copy_n(l.x.data() + (t * batch + b) * inputs, inputs, x.data() + (b * steps + t) * inputs);

    const std::string prefix = std::string("rnn/") + name + "_batch" + std::to_string(batch) + "_units" + std::to_string(units);
    const double product = 2.0 * static_cast<double>(batch * steps * l.gates);
    // The recurrent weights are read in every step.
    const index read = batch * steps * (inputs + units) + l.gates * (inputs + steps * units);
    const Work forward(product * static_cast<double>(inputs + units), read);
    const Work training(forward.flops + product * static_cast<double>(inputs + 2 * units), 2 * read);
    const index last = batch * units;
    const auto final_state = [=](auto run, bool time_first) {
        return [=, r = Run(l)](float* out) mutable {
            run(r);
            for (index b = 0; b < batch; ++b)
                std::copy_n(r.h.data() + (time_first ? (steps - 1) * batch + b : b * steps + steps - 1) * units, units,
                            out + b * units);
        };
    };
    const auto gradient = [=](auto run) {
        return [=, r = Run(l)](float* out) mutable {
            run(r);
            std::copy(r.du.begin(), r.du.end(), out);
        };
    };
    const std::function<void(float*)> naive = [=](float* out) {
        Floats h(static_cast<std::size_t>(steps * last));
        reference::rnn_forward(l.whole, x.data(), l.w.data(), l.u.data(), l.b.data(), h.data());
        for (index b = 0; b < batch; ++b) std::copy_n(h.data() + (b * steps + steps - 1) * units, units, out + b * units);
    };
    const auto forward_steps = final_state([=](Run& r) { step_by_step(l, r, false); }, true);
    const auto training_steps = gradient([=](Run& r) { step_by_step(l, r, true); });
    if (forward.flops < 2e8) add(prefix + "/forward/naive", forward, last, naive, forward_steps);
    add(prefix + "/forward/step_by_step", forward, last, forward_steps, forward_steps);
    add(prefix + "/forward/fused", forward, last, final_state([=](Run& r) { fused(l, r, x, false); }, false),
        forward.flops < 2e8 ? naive : forward_steps);
    if (batch == 1) return;
    add(prefix + "/training/step_by_step", training, l.whole.units * l.gates, training_steps, training_steps);
    add(prefix + "/training/fused", training, l.whole.units * l.gates, gradient([=](Run& r) { fused(l, r, x, true); }),
        training_steps);
}

}  // namespace

void add_recurrent_layers() {
    for (auto [batch, units] : {std::pair<index, index>{64, 128}, {32, 512}, {1, 128}}) {
        add_layer("simple", Cell::simple, batch, units);
        add_layer("lstm", Cell::lstm, batch, units);
        add_layer("gru", Cell::gru, batch, units);
    }
}

}  // namespace vivace::bench
