// The command line of the programs that run device code on the host: a batch in, options by name,
// the completed batch and its records out.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "team/image.hpp"

// METHOD IN OUT COUNT CHANNELS HEIGHT WIDTH f32|f64 TEAM KEY=VALUE...
//
// IN holds the images, and with masked=1 their masks after them, a byte for each entry; OUT gets
// the completed ones; all as raw arrays of shape (COUNT, CHANNELS, HEIGHT, WIDTH). Iterations,
// residuals and deltas of both passes go to standard output, a matrix in each line.
struct HostBatch {
  std::string method;
  splic::Problem problem;
  bool wide = false;
  int team = 1;
  int failing = -1; // a matrix that the eigensolver shall fail on

  // False where the arguments are wrong, or there is no such file.
  bool read(int argc, char **argv) {
    if (argc < 10)
      return false;
    method = argv[1];
    out_ = argv[3];
    splic::Problem &p = problem;
    p.count = std::atoi(argv[4]);
    p.channels = std::atoi(argv[5]);
    p.height = std::atoi(argv[6]);
    p.width = std::atoi(argv[7]);
    wide = std::strcmp(argv[8], "f64") == 0;
    team = std::atoi(argv[9]);
    p.anchor_threshold = std::uint64_t{1} << 31;
    for (int i = 10; i < argc; ++i)
      if (!take(argv[i]))
        return false;
    return load(argv[2]);
  }

  bool write() const {
    std::FILE *file = std::fopen(out_.c_str(), "wb");
    return file && std::fwrite(target_.data(), 1, target_.size(), file) == target_.size() &&
           std::fclose(file) == 0;
  }

  void print(const std::vector<splic::Record> &records) const {
    for (const splic::Record &record : records) {
      for (int pass = 0; pass < problem.passes(); ++pass)
        std::printf("%d %.9g %.9g ", record.iterations[pass], record.residual[pass],
                    record.delta[pass]);
      std::printf("%.9g %.9g %d\n", record.low, record.high, record.failed);
    }
  }

  splic::MatrixItem item(std::int64_t number) const {
    return {number / problem.planes(), static_cast<int>(number % problem.planes()), 0};
  }

private:
  bool take(const std::string &argument) {
    const std::string key = argument.substr(0, argument.find('='));
    const double value = std::atof(argument.substr(key.size() + 1).c_str());
    splic::Options &o = problem.options;
    if (key == "rank")
      o.rank = int(value);
    else if (key == "inner_iterations")
      o.inner_iterations = int(value);
    else if (key == "max_iterations")
      o.max_iterations = int(value);
    else if (key == "tv_weight")
      o.tv_weight = value;
    else if (key == "delta_decay")
      o.delta_decay = value;
    else if (key == "step_size")
      o.step_size = value;
    else if (key == "tolerance")
      o.tolerance = value;
    else if (key == "first_delta")
      o.first_delta = value;
    else if (key == "from_image")
      o.from_image = value != 0;
    else if (key == "masked")
      masked_ = value != 0;
    else if (key == "empty")
      problem.empty = value;
    else if (key == "anchor_fraction")
      problem.anchor_threshold = std::uint64_t(std::llround(value * 4294967296.0));
    else if (key == "alternate")
      o.alternate = value != 0;
    else if (key == "stacked")
      o.stacked = value != 0;
    else if (key == "literal")
      o.literal = value != 0;
    else if (key == "forward")
      o.forward = value != 0;
    else if (key == "failing") // a matrix that the eigensolver shall fail on
      failing = int(value);
    else if (key == "seed")
      problem.seed = std::uint64_t(value);
    else
      return false;
    return true;
  }

  bool load(const char *name) {
    splic::Problem &p = problem;
    const int bytes = wide ? 8 : 4;
    const std::size_t count = static_cast<std::size_t>(p.count) * p.channels * p.height * p.width;
    source_.resize(count * bytes);
    target_.resize(count * bytes);
    mask_.resize(masked_ ? count : 0);
    std::FILE *file = std::fopen(name, "rb");
    if (!file || std::fread(source_.data(), bytes, count, file) != count ||
        std::fread(mask_.data(), 1, mask_.size(), file) != mask_.size())
      return false;
    std::fclose(file);
    p.dtype = wide ? splic::DType::f64 : splic::DType::f32;
    p.source.data = source_.data();
    p.target.data = target_.data();
    const std::ptrdiff_t strides[] = {std::ptrdiff_t(p.channels) * p.height * p.width * bytes,
                                      std::ptrdiff_t(p.height) * p.width * bytes,
                                      std::ptrdiff_t(p.width) * bytes, bytes};
    if (masked_)
      p.mask.data = mask_.data();
    for (int axis = 0; axis < 4; ++axis) {
      p.source.stride[axis] = p.target.stride[axis] = strides[axis];
      p.mask.stride[axis] = strides[axis] / bytes;
    }
    return true;
  }

  std::string out_;
  bool masked_ = false;
  std::vector<unsigned char> source_, target_, mask_;
};
