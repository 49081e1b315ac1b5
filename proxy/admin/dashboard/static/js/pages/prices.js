export const prices = async () => ({ title: "Prices", node: [] });
