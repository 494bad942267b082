// oneDNN and OpenBLAS on the same work, where they were found when the benchmark was built.
#include <algorithm>
#include <memory>
#include <unordered_map>

#include "bench.h"
#include "vivace/parallel.h"

#ifdef VIVACE_BENCH_OPENBLAS
#include <cblas.h>
#endif
#ifdef VIVACE_BENCH_ONEDNN
#include <omp.h>

#include <dnnl.hpp>
#endif

namespace vivace::bench {

#ifdef VIVACE_BENCH_OPENBLAS
void add_openblas(const std::string& prefix, index m, index n, index k, const Floats& a, bool transpose_a,
                  const Floats& b, bool transpose_b, const std::function<void(float*)>& trusted) {
    const auto number = [](index i) { return static_cast<int>(i); };
    const Work work(2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k), m * k + k * n + m * n);
    openblas_set_num_threads(get_num_threads());
    const auto run = [=](float* c) {
        cblas_sgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans, transpose_b ? CblasTrans : CblasNoTrans,
                    number(m), number(n), number(k), 1, a.data(), number(transpose_a ? m : k), b.data(),
                    number(transpose_b ? k : n), 0, c, number(n));
    };
    add(prefix + "openblas", work, m * n, run, trusted);
}
#else
void add_openblas(const std::string&, index, index, index, const Floats&, bool, const Floats&, bool,
                  const std::function<void(float*)>&) {}
#endif

#ifdef VIVACE_BENCH_ONEDNN
namespace {

using dnnl::memory;

// A primitive with all its memory. The result goes where `run` is told; weights stand in the layout that oneDNN likes
// best, brought there outside the clock, but for the weights' gradient, which is an output.
class OneDnn {
public:
    OneDnn(const Conv2DShape& s, const Floats& x, const Floats& w, const Floats& b, const Floats& dy)
        : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_), x_(x), w_(w), b_(b), dy_(dy),
          images_({s.n, s.c, s.h, s.w}, memory::data_type::f32, memory::format_tag::nhwc),
          outputs_({s.n, s.o, s.p, s.q}, memory::data_type::f32, memory::format_tag::nhwc),
          kernel_(kernel_dims(s), memory::data_type::f32,
                  s.groups > 1 ? memory::format_tag::hwigo : memory::format_tag::hwio),
          any_kernel_(kernel_dims(s), memory::data_type::f32, memory::format_tag::any),
          bias_({s.o}, memory::data_type::f32, memory::format_tag::a), strides_{s.stride_h, s.stride_w},
          before_{s.pad_top, s.pad_left}, after_{s.pad_bottom, s.pad_right} {
        omp_set_num_threads(get_num_threads());
    }

    void forward(float* y) {
        if (!primitive_) {
            dnnl::post_ops relu;
            relu.append_eltwise(1, dnnl::algorithm::eltwise_relu, 0, 0);
            dnnl::primitive_attr attributes;
            attributes.set_post_ops(relu);
            const dnnl::convolution_forward::primitive_desc pd(forward_desc(), attributes, engine_);
            start(dnnl::convolution_forward(pd), DNNL_ARG_DST, memory(outputs_, engine_, y));
            arguments_.emplace(DNNL_ARG_SRC, of(images_, x_));
            arguments_.emplace(DNNL_ARG_WEIGHTS, weights(pd.weights_desc()));
            arguments_.emplace(DNNL_ARG_BIAS, of(bias_, b_));
        }
        execute(DNNL_ARG_DST, y);
    }

    void input_gradient(float* dx) {
        if (!primitive_) {
            const dnnl::convolution_backward_data::desc desc(dnnl::algorithm::convolution_direct, images_, any_kernel_,
                                                             outputs_, strides_, before_, after_);
            const dnnl::convolution_backward_data::primitive_desc pd(desc, engine_, hint());
            start(dnnl::convolution_backward_data(pd), DNNL_ARG_DIFF_SRC, memory(images_, engine_, dx));
            arguments_.emplace(DNNL_ARG_DIFF_DST, of(outputs_, dy_));
            arguments_.emplace(DNNL_ARG_WEIGHTS, weights(pd.weights_desc()));
        }
        execute(DNNL_ARG_DIFF_SRC, dx);
    }

    void weight_gradient(float* dw) {
        if (!primitive_) {
            const dnnl::convolution_backward_weights::desc desc(dnnl::algorithm::convolution_direct, images_, any_kernel_,
                                                                outputs_, strides_, before_, after_);
            const dnnl::convolution_backward_weights::primitive_desc pd(desc, engine_, hint());
            own_ = memory(pd.diff_weights_desc(), engine_);
            start(dnnl::convolution_backward_weights(pd), DNNL_ARG_DIFF_WEIGHTS, own_);
            arguments_.emplace(DNNL_ARG_SRC, of(images_, x_));
            arguments_.emplace(DNNL_ARG_DIFF_DST, of(outputs_, dy_));
        }
        primitive_->execute(stream_, arguments_);
        memory result(kernel_, engine_, dw);
        dnnl::reorder(own_, result).execute(stream_, own_, result);
        stream_.wait();
    }

private:
    dnnl::engine engine_;
    dnnl::stream stream_;
    Floats x_, w_, b_, dy_;
    memory::desc images_, outputs_, kernel_, any_kernel_, bias_;
    memory::dims strides_, before_, after_;
    memory own_;
    std::unique_ptr<dnnl::primitive> primitive_;
    std::unordered_map<int, memory> arguments_;

    static memory::dims kernel_dims(const Conv2DShape& s) {
        if (s.groups == 1) return {s.o, s.c, s.kh, s.kw};
        return {s.groups, s.o / s.groups, s.c / s.groups, s.kh, s.kw};
    }
    dnnl::convolution_forward::desc forward_desc() const {
        return {dnnl::prop_kind::forward_training, dnnl::algorithm::convolution_direct, images_, any_kernel_, bias_,
                outputs_, strides_, before_, after_};
    }
    dnnl::convolution_forward::primitive_desc hint() const { return {forward_desc(), engine_}; }
    memory of(const memory::desc& desc, Floats& data) { return memory(desc, engine_, data.data()); }
    memory weights(const memory::desc& desc) {
        memory given = of(kernel_, w_), own(desc, engine_);
        dnnl::reorder(given, own).execute(stream_, given, own);
        stream_.wait();
        return own;
    }
    void start(const dnnl::primitive& primitive, int output, const memory& where) {
        primitive_ = std::make_unique<dnnl::primitive>(primitive);
        arguments_.emplace(output, where);
    }
    void execute(int output, float* where) {
        arguments_.at(output).set_data_handle(where);
        primitive_->execute(stream_, arguments_);
        stream_.wait();
    }
};

}  // namespace

void add_onednn(const std::string& prefix, const Conv2DShape& s, const Floats& x, const Floats& w, const Floats& b,
                const Floats& dy, const Trusted& trusted) {
    const Work work(static_cast<double>(s.flops()), s.input_size() + s.kernel_size() + s.output_size());
    const auto conv = [&] { return std::make_shared<OneDnn>(s, x, w, b, dy); };
    add(prefix + "forward/onednn", work, s.output_size(), [c = conv()](float* y) { c->forward(y); }, trusted.forward);
    add(prefix + "input_gradient/onednn", work, s.input_size(), [c = conv()](float* dx) { c->input_gradient(dx); },
        trusted.input_gradient);
    add(prefix + "weight_gradient/onednn", work, s.kernel_size(), [c = conv()](float* dw) { c->weight_gradient(dw); },
        trusted.weight_gradient);
}
#else
void add_onednn(const std::string&, const Conv2DShape&, const Floats&, const Floats&, const Floats&, const Floats&,
                const Trusted&) {}
#endif

}  // namespace vivace::bench
