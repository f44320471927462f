// DLPack, the protocol by which array libraries share memory (https://dmlc.github.io/dlpack):
// arrays of others in, arrays of our own out. The structures are those of its C interface,
// version 1.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace splic_bindings {

namespace py = pybind11;

struct DLDevice {
  std::int32_t type, id;
};
struct DLDataType {
  std::uint8_t code, bits;
  std::uint16_t lanes;
};
struct DLTensor {
  void *data;
  DLDevice device;
  std::int32_t ndim;
  DLDataType dtype;
  std::int64_t *shape, *strides; // strides in elements, or null: C order
  std::uint64_t byte_offset;
};
struct DLManaged {
  DLTensor tensor;
  void *context;
  void (*deleter)(DLManaged *);
};
struct DLManagedVersioned {
  std::uint32_t major, minor;
  void *context;
  void (*deleter)(DLManagedVersioned *);
  std::uint64_t flags;
  DLTensor tensor;
};
constexpr std::uint64_t kDLReadOnly = 1;

struct DLName {
  const char *name;
  std::uint8_t code, bits;
};
constexpr DLName kDLNames[] = {{"uint8", 1, 8},    {"float16", 2, 16}, {"bfloat16", 4, 16},
                               {"float32", 2, 32}, {"float64", 2, 64}, {"bool", 6, 8}};

// Memory of another library, which stays alive with this.
class Shared {
public:
  explicit Shared(const py::capsule &capsule) {
    const std::string name = capsule.name();
    if (name == "dltensor") {
      plain_ = static_cast<DLManaged *>(capsule);
      tensor_ = &plain_->tensor;
      PyCapsule_SetName(capsule.ptr(), "used_dltensor");
    } else if (name == "dltensor_versioned") {
      auto *managed = static_cast<DLManagedVersioned *>(capsule);
      if (managed->major != 1)
        throw py::buffer_error("DLPack version " + std::to_string(managed->major) +
                               " is not known");
      versioned_ = managed;
      tensor_ = &versioned_->tensor;
      PyCapsule_SetName(capsule.ptr(), "used_dltensor_versioned");
    } else {
      throw py::type_error("not a DLPack capsule that nobody has used: " + name);
    }
  }
  Shared(const Shared &) = delete;
  Shared &operator=(const Shared &) = delete;
  ~Shared() {
    if (plain_ && plain_->deleter)
      plain_->deleter(plain_);
    if (versioned_ && versioned_->deleter)
      versioned_->deleter(versioned_);
  }

  std::uintptr_t pointer() const {
    return reinterpret_cast<std::uintptr_t>(tensor_->data) + tensor_->byte_offset;
  }
  std::string dtype() const {
    const DLDataType type = tensor_->dtype;
    for (const DLName &known : kDLNames)
      if (known.code == type.code && known.bits == type.bits && type.lanes == 1)
        return known.name;
    return "DLPack type (" + std::to_string(type.code) + ", " + std::to_string(type.bits) + ")";
  }
  std::vector<std::int64_t> shape() const {
    return {tensor_->shape, tensor_->shape + tensor_->ndim};
  }
  std::vector<std::int64_t> strides() const { // in bytes
    std::vector<std::int64_t> strides(static_cast<std::size_t>(tensor_->ndim));
    std::int64_t dense = item();
    for (std::size_t axis = strides.size(); axis-- > 0;) {
      strides[axis] = tensor_->strides ? tensor_->strides[axis] * item() : dense;
      dense *= tensor_->shape[axis];
    }
    return strides;
  }
  std::int64_t item() const { return (tensor_->dtype.bits * tensor_->dtype.lanes + 7) / 8; }
  bool read_only() const { return versioned_ && (versioned_->flags & kDLReadOnly); }
  py::tuple device() const { return py::make_tuple(tensor_->device.type, tensor_->device.id); }

private:
  DLManaged *plain_ = nullptr;
  DLManagedVersioned *versioned_ = nullptr;
  DLTensor *tensor_ = nullptr;
};

// Makes a capsule of memory that `owner` keeps alive.
template <class Owner>
py::capsule export_dlpack(const std::shared_ptr<Owner> &owner, void *data, DLDevice device,
                          const std::string &dtype, const std::vector<std::int64_t> &shape) {
  struct Held {
    DLManaged managed;
    std::shared_ptr<Owner> owner;
    std::vector<std::int64_t> shape;
  };
  auto held = std::make_unique<Held>();
  held->owner = owner;
  held->shape = shape;
  DLTensor &tensor = held->managed.tensor;
  tensor = {data,    device, static_cast<std::int32_t>(shape.size()), {0, 0, 1}, held->shape.data(),
            nullptr, 0};
  for (const DLName &known : kDLNames)
    if (known.name == dtype)
      tensor.dtype = {known.code, known.bits, 1};
  if (tensor.dtype.bits == 0)
    throw py::type_error("unknown dtype " + dtype);
  held->managed.context = held.get();
  held->managed.deleter = [](DLManaged *managed) { delete static_cast<Held *>(managed->context); };
  py::capsule capsule(&held->managed, "dltensor", [](PyObject *object) {
    // Whoever takes the memory over renames the capsule, and calls the deleter.
    if (PyCapsule_IsValid(object, "dltensor")) {
      auto *managed = static_cast<DLManaged *>(PyCapsule_GetPointer(object, "dltensor"));
      managed->deleter(managed);
    }
  });
  held.release();
  return capsule;
}

} // namespace splic_bindings
