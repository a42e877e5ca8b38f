// The tour of protos/README.md by a Node.js client that knows the API by reflection alone.
const crypto = require("crypto");
const fs = require("fs");
const path = require("path");
const grpc = require("@grpc/grpc-js");
const { GrpcReflection } = require("grpc-js-reflection-client");

const files = process.argv[2];
const credentials = grpc.credentials.createInsecure();

async function service(process_, name) {
  const address = process.env[`LATHE_${process_.toUpperCase()}_ADDRESS`];
  const found = await new GrpcReflection(address, credentials, {}, "v1").getDescriptorBySymbol(name);
  const options = { keepCase: true, enums: String, longs: Number, defaults: true };
  const Stub = name.split(".").reduce((at, part) => at[part], found.getPackageObject(options));
  const stub = new Stub(address, credentials);
  return {
    call: (method, request) =>
      new Promise((resolve, reject) => stub[method](request, (error, answer) => (error ? reject(error) : resolve(answer)))),
    // The last message of a stream that ends by itself.
    last: (method, request) =>
      new Promise((resolve, reject) => {
        let seen;
        stub[method](request).on("data", (message) => (seen = message)).on("error", reject).on("end", () => resolve(seen));
      }),
  };
}

async function main() {
  const artifacts = await service("registry", "lathe.registry.v1.ArtifactService");
  const models = await service("registry", "lathe.registry.v1.ModelService");
  const architectures = await service("registry", "lathe.registry.v1.ArchitectureService");
  const datasets = await service("registry", "lathe.registry.v1.DatasetService");
  const releases = await service("registry", "lathe.registry.v1.ReleaseService");
  const templates = await service("template", "lathe.template.v1.TemplateService");
  const conversions = await service("converter", "lathe.converter.v1.ConversionService");
  const evaluations = await service("evaluator", "lathe.evaluator.v1.EvaluationService");
  const optimizations = await service("optimizer", "lathe.optimizer.v1.OptimizationService");

  async function upload(name) {
    const body = fs.readFileSync(path.join(files, name));
    const digest = { sha256: crypto.createHash("sha256").update(body).digest("hex"), size_bytes: body.length };
    const opened = await artifacts.call("CreateUpload", { display_name: name, size_bytes: body.length });
    const put = await fetch(opened.parts[0].url, { method: "PUT", body });
    if (!put.ok) throw new Error(`PUT answered ${put.status}`);
    await artifacts.call("FinalizeUpload", { name: opened.name, digest });
    return { path: name, digest };
  }

  async function ended(from, method, task) {
    const last = await from.last(method, { name: task.name });
    if (last.status.state !== "TASK_STATE_SUCCEEDED") throw new Error(JSON.stringify(last.status));
    return last;
  }

  const source = fs.readFileSync(path.join(files, "digits_cnn.py"), "utf8");
  const architecture = { display_name: "Digits CNN", class_name: "DigitsCNN", source };
  const { name: architectureName } = await architectures.call("CreateArchitecture", { architecture });
  const written = JSON.parse(fs.readFileSync(path.join(files, "digits_template.json"), "utf8"));
  const snake = (key) => key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  const rename = (value) =>
    Array.isArray(value) ? value.map(rename)
      : value && typeof value === "object" ? Object.fromEntries(Object.entries(value).map(([k, v]) => [snake(k), rename(v)]))
        : value;
  const template = await templates.call("CreateTemplate", { template: rename(written), template_id: "digits" });
  const model = await models.call("CreateModel", { model: { display_name: "Digits" } });
  const version = await models.call("CreateModelVersion", {
    parent: model.name,
    model_version: { format: "MODEL_FORMAT_PTH", architecture: architectureName, files: [await upload("digits.pth")] },
  });

  const conversion = await conversions.call("CreateConversionTask", {
    task: { spec: { model_version: version.name, template: template.name } },
  });
  const { result } = await ended(conversions, "WatchConversionTask", conversion);

  const mapping = { template: template.name, entries: [{ task: "digit", key: "digit" }] };
  const dataset = await datasets.call("CreateDataset", {
    dataset: { display_name: "Held out", files: [await upload("digits-held-out.zip")], mapping },
  });
  await datasets.last("WatchDataset", { name: dataset.name });
  const evaluation = await evaluations.call("CreateEvaluationTask", {
    task: { spec: { model_version: result.model_version, dataset: dataset.name } },
  });
  await ended(evaluations, "WatchEvaluationTask", evaluation);

  const rules = { dataset: dataset.name, bounds: [{ metric: "top1", min: 0.9 }] };
  const channel = await releases.call("CreateChannel", {
    parent: model.name, channel_id: "production", channel: { display_name: "Production", rules },
  });
  const release = await releases.call("PromoteModelVersion", {
    name: channel.name, model_version: result.model_version, evaluation_task: evaluation.name,
  });
  console.log(`released ${release.model_version}`);

  const search = await optimizations.call("CreateOptimizationTask", {
    task: {
      spec: {
        model_version: version.name, template: template.name, device: "cpu-x86-64", search_budget: { seconds: 15 },
      },
    },
  });
  await ended(optimizations, "WatchOptimizationTask", search);
  const begun = await optimizations.call("SaveModel", { name: search.name });
  const saved = await optimizations.last("WatchModelSave", { name: begun.name });
  console.log(`saved ${saved.model_version}`);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
